"""Keys of approvers and their signatures, for the agent, the server and the console alike.

It depends on `protocol` alone, and on `cryptography` only inside the functions that verify.
"""
