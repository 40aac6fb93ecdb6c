"""Use cases: one public async method, one transaction each.

They know the rules and the ports; they refuse to know SQL, HTTP or the environment.
"""
