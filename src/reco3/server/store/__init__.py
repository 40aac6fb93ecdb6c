"""SQL and nothing but SQL.

No rule lives here: rows become frozen domain values on the way out and come from them on the way in.
"""
