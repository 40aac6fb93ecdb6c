"""ASGI and nothing but ASGI: bytes in, one service call, bytes out.

No rule and no SQL lives here; every route names its audience.
"""
