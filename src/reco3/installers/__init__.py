"""Install and remove the agent as a service: one engine for Linux, macOS and Windows, run by the system's own Python.

It needs the standard library alone, and refuses to be needed by what it installs.
"""
