"""The history of the schema; each step is applied once, at start."""
