"""The rules: what a heartbeat, a report, an approval means.

No await, clock, SQL, logging or framework here: time, randomness and ids arrive as arguments.
"""
