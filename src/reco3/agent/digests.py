"""SHA-256 for telling one content from another.

It refuses to bring OpenSSL along for that: `hashlib` would, with three and a half megabytes of resident memory.
"""

from collections.abc import Callable
from typing import Any

_sha256: Callable[[bytes], Any]
try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found,no-redef]  # Python 3.12 and newer
except ImportError:
    try:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found,no-redef]
    except ImportError:  # An interpreter that was built without its own.
        from hashlib import sha256 as _sha256


def sha256_hex(content: bytes) -> str:
    """Return the SHA-256 of a content, 64 hexadecimal digits."""
    return str(_sha256(content).hexdigest())
