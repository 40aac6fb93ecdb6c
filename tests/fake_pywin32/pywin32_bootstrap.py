"""Stands in for what pywin32's start-up line runs: it makes the folder with pywin32's DLLs known to the process.

Without it no extension module of pywin32 can be loaded from a virtual environment, as in the real one.
"""
