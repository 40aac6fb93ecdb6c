"""The server: relays orders and shows what PCs report; the agent decides.

It never holds anything that would let it run a strong command on a PC by itself.
"""
