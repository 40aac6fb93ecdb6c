"""The operator's command line over the HTTP API.

It speaks to a server as any script could; it refuses to know the server's or the agent's code.
"""
