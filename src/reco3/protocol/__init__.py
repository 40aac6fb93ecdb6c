"""What travels between an agent and the server, shared by both sides.

Standard library only, no I/O: a rule that both sides obey is written here once.
"""
