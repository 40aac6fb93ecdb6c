"""Passwords: which ones are refused before anybody hashes them.

Length counts most; a rule about kinds of characters would only make people write them down (NIST SP 800-63B, 3.1.1).
"""

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
# Longer ones first: each is cut out in its turn.
_FAMOUS = (
    "administrator",
    "willkommen",
    "password",
    "passwort",
    "kennwort",
    "changeme",
    "iloveyou",
    "sunshine",
    "princess",
    "football",
    "baseball",
    "superman",
    "letmein",
    "welcome",
    "default",
    "qwertz",
    "qwerty",
    "secret",
    "geheim",
    "monkey",
    "dragon",
    "master",
    "trustno",
    "passwd",
    "passw",
    "admin",
    "login",
    "reco",
    "root",
    "test",
)
_MAX_LETTERS_BESIDE = 4


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
    if len(password) < MIN_CHARS:
        return f"expected at least {MIN_CHARS} characters, got {len(password)}; four unrelated words do well"
    if len(password) > MAX_CHARS:
        return f"expected at most {MAX_CHARS} characters"
    plain = password.casefold()
    if len(set(plain)) < _MIN_DIFFERENT:
        return f"expected at least {_MIN_DIFFERENT} different characters"
    if len(name) >= _MIN_TELLING_NAME and name.casefold() in plain:
        return "it contains the name of the account"
    return "it is one of those that everybody tries first" if _is_famous(plain) else None


def _is_famous(plain: str) -> bool:
    if any(plain in row or plain[::-1] in row for row in _ROWS):
        return True
    letters = rest = "".join(filter(str.isalpha, plain))
    for word in _FAMOUS:
        rest = rest.replace(word, "")
    return rest != letters and len(rest) <= _MAX_LETTERS_BESIDE
