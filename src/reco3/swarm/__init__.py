"""`reco3 swarm`: simulates many PCs against any RECO3 server, and keeps its own books about what was acknowledged.

It speaks only what the agent protocol says, and shares no code with the agent or the server but `reco3.protocol`.
"""
