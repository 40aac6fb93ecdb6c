"""The agent: what runs on a PC, watches it, and decides there what may be done to it.

It opens no port, runs no shell, and refuses to learn from the server what this PC allows.
"""
