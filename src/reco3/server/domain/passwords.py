"""Passwords: which ones are refused before anybody hashes them.

Length counts most; a rule about kinds of characters would only make people write them down (NIST SP 800-63B, 3.1.1).
"""

import re
import unicodedata

from reco3.server.domain.errors import BadInput

MIN_CHARS = 12
MAX_CHARS = 200
_MIN_DIFFERENT = 5
_MIN_TELLING_NAME = 3
_ROWS = (
    "abcdefghijklmnopqrstuvwxyz",
    "012345678901234567890123456789",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
)
_FAMOUS = frozenset(
    "password passwort passw kennwort letmein welcome willkommen iloveyou qwerty qwertz admin administrator root "
    "changeme secret geheim login monkey dragon master sunshine princess football baseball superman trustno reco "
    "test default".split()
)


def normalized(password: str) -> str:
    """The same password, however a keyboard composed its characters."""
    return unicodedata.normalize("NFKC", password)


def check_password(password: str, *, name: str) -> None:
    """Refuse a password that is short or that everybody tries first.

    Raises:
        BadInput: `weak_password`; says why, and never the password.
    """
    reason = _weakness(normalized(password), name)
    if reason is not None:
        raise BadInput("password", reason, code="weak_password")


def _weakness(password: str, name: str) -> str | None:
    plain = password.casefold()
    if len(password) < MIN_CHARS:
        return f"expected at least {MIN_CHARS} characters, got {len(password)}; four unrelated words do well"
    if len(password) > MAX_CHARS:
        return f"expected at most {MAX_CHARS} characters"
    if len(set(plain)) < _MIN_DIFFERENT:
        return f"expected at least {_MIN_DIFFERENT} different characters"
    if len(name) >= _MIN_TELLING_NAME and name.casefold() in plain:
        return "it contains the name of the account"
    if any(plain in row or plain[::-1] in row for row in _ROWS):
        return "it is a row of the keyboard or of the alphabet"
    if set(re.findall(r"[a-z]+", plain)) and set(re.findall(r"[a-z]+", plain)) <= _FAMOUS:
        return "it is one of those that everybody tries first"
    return None
