"""RECO3 watches PCs and controls them without fear.

This package holds nothing itself: `protocol` is what travels, `server` and `agent` are the two sides.
"""

__version__ = "0.1.0"
