"""`reco3 agent doctor`: whether this PC's agent is set up so that it works, and what to do where it is not.

It refuses to change anything, here or on the server, and to start any program of the config's rules.
Facts come from the modules that the agent itself works with; what they mean is judged in pure functions.
"""
