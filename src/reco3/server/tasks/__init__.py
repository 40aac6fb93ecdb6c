"""The clock: what happens because time passes.

Each task calls one service; a task that fails logs its traceback and is tried again.
"""
