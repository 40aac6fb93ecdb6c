"""An approver's own Ed25519 keys: files that nobody else can read, locked with a passphrase.

It refuses to overwrite a key, to use one that others can read, and to keep a passphrase or an open key anywhere.
"""

import base64
import binascii
import contextlib
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from reco3.console.keys import OTHERS_MAY_READ, BadUsage
from reco3.signing.pins import BadPin, Pin, parse_pin, pin_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SUFFIX = ".key"
FIRST_LINE = "RECO3 approver key, version 1. Keep this file to yourself; the pin may be shown to everybody."
OWNER_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}")
OWNER_EXPECTED = "1 to 64 letters, digits and . _ @ -, beginning with a letter or digit"
PEM_MARK = "-----BEGIN "
MAX_FILE_BYTES = 16 * 1024
SALT_BYTES = 16
# What a guess at the passphrase costs: 64 MiB and about a quarter of a second.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**16, 8, 1
SCRYPT_MAX_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key as it lies on disk; `salt` is None where no passphrase locks it."""

    path: Path
    pin: Pin
    salt: bytes | None
    pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An open key; it lives as long as the one command that needed it."""

    pin: Pin
    _private: "Ed25519PrivateKey" = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of the signature (RFC 8032)."""
        return self._private.sign(message)


def key_folder(environment: Mapping[str, str]) -> Path:
    """Where this person's keys are; on Windows below %APPDATA%, which other users cannot read.

    Raises:
        BadUsage: nothing says where this person's files are.
    """
    if sys.platform == "win32":
        if not (base := environment.get("APPDATA")):
            raise BadUsage("APPDATA is not set, so name the key with --file PATH")
        return Path(base) / "reco3" / "keys"
    if configured := environment.get("XDG_CONFIG_HOME"):
        return Path(configured) / "reco3" / "keys"
    try:
        return Path.home() / ".config" / "reco3" / "keys"
    except RuntimeError as err:
        raise BadUsage("nobody's home folder is known here, so name the key with --file PATH") from err


def key_path(folder: Path, owner: str) -> Path:
    """The file of an owner's key."""
    return folder / f"{owner}{SUFFIX}"


def create_key(path: Path, owner: str, passphrase: str | None) -> KeyFile:
    """Make a key and write it, once.

    Raises:
        BadUsage: the file exists, or it cannot be written.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - only who signs loads it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    private = Ed25519PrivateKey.generate()
    public = base64.b64encode(private.public_key().public_bytes_raw()).decode()
    salt = None if passphrase is None else secrets.token_bytes(SALT_BYTES)
    locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None and salt is not None:
        locked = serialization.BestAvailableEncryption(_stretched(passphrase, salt))
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    made = KeyFile(path, parse_pin(f"{owner}:ed25519:{public}"), salt, pem)
    _write_once(path, _file_text(made))
    return made


def refuse_existing(path: Path) -> None:
    """Say that the key exists, before anybody thinks of a passphrase for nothing.

    Raises:
        BadUsage: it does.
    """
    if path.exists() or path.is_symlink():
        raise BadUsage(
            f"{_shown(path)} exists and is not overwritten: PCs may pin that key. `reco3 keys show` shows it."
        )


def read_key(path: Path) -> KeyFile:
    """The key in a file, still locked.

    Raises:
        BadUsage: it is no key of ours, or others can read it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as err:
        raise BadUsage(f"cannot read the key {_shown(path)}: {err.strerror}. `reco3 keys init` makes one.") from err
    if sys.platform != "win32" and mode & OTHERS_MAY_READ:
        raise BadUsage(f"others can read the key {_shown(path)}, so it is not used: chmod 600 keeps it to you")
    try:
        return _parsed(path, content)
    except (ValueError, BadPin) as err:
        raise BadUsage(f"{_shown(path)} is no approver's key of RECO3: {err}") from err


def unlock(key: KeyFile, passphrase: str | None) -> SigningKey:
    """Open a key with its passphrase, and make sure that it is the key whose pin the file shows.

    Raises:
        BadUsage: the passphrase is wrong, or the file was changed.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    secret = None if key.salt is None or passphrase is None else _stretched(passphrase, key.salt)
    try:
        private = load_pem_private_key(key.pem, secret)
    except (ValueError, TypeError) as err:
        raise BadUsage(f"the passphrase does not open {_shown(key.path)}") from err
    if not isinstance(private, Ed25519PrivateKey) or _pin_key(private) != key.pin.key:
        raise BadUsage(f"{_shown(key.path)} was changed: its pin is not that of its key; nothing is signed with it")
    return SigningKey(key.pin, private)


def keys_in(folder: Path) -> list[KeyFile]:
    """Every key of a folder, by name.

    Raises:
        BadUsage: one of them cannot be used.
    """
    return [read_key(path) for path in sorted(folder.glob(f"*{SUFFIX}"))] if folder.is_dir() else []


def choose_key(folder: Path, *, owner: str | None, file: str | None) -> KeyFile:
    """The key that the options name, else the only one there is; development keys are never the one.

    Raises:
        BadUsage: there is none, or more than one.
    """
    if file is not None:
        key = read_key(Path(file))
        if owner is not None and key.pin.owner != owner:
            raise BadUsage(f"the key in {_shown(key.path)} is that of {key.pin.owner}, not of {owner}")
        return key
    if owner is not None:
        return read_key(key_path(folder, owner))
    keys = [key for key in keys_in(folder) if not key.pin.is_development]
    if not keys:
        raise BadUsage(f"there is no key of yours in {_shown(folder)}: `reco3 keys init` makes one")
    if len(keys) > 1:
        raise BadUsage(f"there are several keys: say --owner {' or --owner '.join(key.pin.owner for key in keys)}")
    return keys[0]


def _parsed(path: Path, content: bytes) -> KeyFile:
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"more than {MAX_FILE_BYTES} bytes")
    head, mark, pem = content.decode("ascii").partition(PEM_MARK)
    lines = head.splitlines()
    if not mark or not lines or lines[0] != FIRST_LINE:
        raise ValueError("its first line is another one")
    named = dict(line.split(" ", 1) for line in lines[1:] if " " in line)
    pin = parse_pin(named.get("pin", ""))
    if pin.kind != "ed25519":
        raise ValueError("only ed25519 keys are kept in files")
    salt = base64.b64decode(named["salt"], validate=True) if "salt" in named else None
    return KeyFile(path, pin, salt, (mark + pem).encode())


def _file_text(key: KeyFile) -> str:
    salt = "" if key.salt is None else f"salt {base64.b64encode(key.salt).decode()}\n"
    return f"{FIRST_LINE}\npin {pin_text(key.pin)}\n{salt}{key.pem.decode()}"


def _write_once(path: Path, text: str) -> None:
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, parents=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        refuse_existing(path)
        raise BadUsage(f"{_shown(path)} cannot be made here") from None
    except OSError as err:
        raise BadUsage(f"cannot write {_shown(path)}: {err.strerror}") from err
    with _removed_unless_whole(path), open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _removed_unless_whole(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException as err:
        path.unlink(missing_ok=True)
        if isinstance(err, OSError):
            raise BadUsage(f"cannot write {_shown(path)}: {err.strerror}") from err
        raise


def _stretched(passphrase: str, salt: bytes) -> bytes:
    """The passphrase made costly to guess: PKCS#8 alone spends half a millisecond on a guess."""
    stretched = hashlib.scrypt(
        passphrase.encode(), salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=SCRYPT_MAX_BYTES, dklen=32
    )
    return binascii.hexlify(stretched)


def _pin_key(private: "Ed25519PrivateKey") -> bytes:
    return private.public_key().public_bytes_raw()


def _shown(path: Path) -> str:
    return ascii(str(path))
