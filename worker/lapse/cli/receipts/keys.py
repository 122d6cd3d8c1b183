"""The key that signs receipts, and those that verify them: files, and fingerprints."""

import base64
import binascii
import hashlib
import os
import re
import secrets
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from lapse.audit import keyfile
from lapse.errors import ConfigError

SIZE = 32
"""Bytes of a seed, and of a public key."""
PRIVATE = bytes.fromhex("302e020100300506032b657004220420")
"""What the seed follows in PKCS #8, and the public key in a SubjectPublicKeyInfo (RFC 8410, 7 and 4)."""
PUBLIC = bytes.fromhex("302a300506032b6570032100")

_FINGERPRINT = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_PEM = re.compile(r"-----BEGIN (PRIVATE|PUBLIC) KEY-----\s+([A-Za-z0-9+/=\s]+?)\s*-----END \1 KEY-----")


def fingerprint(public: bytes) -> str:
    """Return what a public key is called: SHA-256 of its 32 bytes."""
    return f"sha256:{hashlib.sha256(public).hexdigest()}"


def public_pem(public: bytes) -> str:
    """Return a public key as OpenSSL writes it."""
    return _pem("PUBLIC", PUBLIC + public)


def new_seed(path: Path) -> bytes:
    """Return a new seed; the file that holds it is new too, and its owner's alone.

    Raises:
        ConfigError: the file is there already, or cannot be written.

    """
    seed = secrets.token_bytes(SIZE)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(_pem("PRIVATE", PRIVATE + seed))
    except OSError as error:
        raise ConfigError(f"{path} cannot be made: {error.strerror}") from None
    return seed


def open_seed(key_file: str | None, audit_key_file: str | None) -> bytes:
    """Return the seed of ``[receipts] key_file``.

    Args:
        key_file: Its name; None: there is none.
        audit_key_file: That of ``[audit] key_file``. One that cannot be read here is another than this one.

    Raises:
        ConfigError: there is none, it cannot be read, holds no seed, is the audit's, or everybody here can read it.

    """
    if key_file is None:
        raise ConfigError(
            "receipts are signed with a key of their own, and [receipts] key_file names none. These two make one:\n"
            f"  {_making('receipts.key')}\n"
            '  export LAPSE_RECEIPTS__KEY_FILE="$PWD/receipts.key"'
        )
    path = Path(key_file)
    content = keyfile.read("[receipts]", path, _making(key_file))
    seed = seed_of(content)
    if audit_key_file is not None and _are_one(content, seed, Path(audit_key_file)):
        raise ConfigError(
            f"[receipts] key_file {path} holds the audit's key, and whoever verifies one would know the other: "
            f"make another with `{_making('FILE')}`"
        )
    if seed is None:
        raise ConfigError(
            f"[receipts] key_file {path} holds no Ed25519 key (PEM, or 32 bytes in hexadecimal or base64): make one "
            f"with `{_making('FILE')}`"
        )
    return seed


def seed_of(content: bytes) -> bytes | None:
    """Return the seed that a key file holds: as PEM (PKCS #8), in hexadecimal or in base64; or None."""
    text = content.decode("ascii", "replace").strip()
    for label, der in _blocks(text):
        if label == "PRIVATE" and der[: len(PRIVATE)] == PRIVATE and len(der) == len(PRIVATE) + SIZE:
            return der[len(PRIVATE) :]
    found = None
    with suppress(ValueError):
        found = bytes.fromhex(text) if len(text) == 2 * SIZE else base64.b64decode(text, validate=True)
    return found if found and len(found) == SIZE else None


def trusted(named: Iterable[str]) -> frozenset[str]:
    """Return the fingerprints of public keys.

    Args:
        named: Each a fingerprint, or a file with public keys as PEM: ``lapse receipt key`` writes one.

    Raises:
        ConfigError: a name is neither.

    """
    return frozenset(found for name in named for found in _fingerprints(name))


def _fingerprints(name: str) -> list[str]:
    if said := _FINGERPRINT.fullmatch(name):
        return [f"sha256:{said[1]}"]
    try:
        text = Path(name).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"{name} is no fingerprint, and no file that can be read: {error.strerror}") from None
    blocks = list(_blocks(text))
    if any(label == "PRIVATE" for label, _ in blocks):
        raise ConfigError(f"{name} holds a private key: give the public one, as `lapse receipt key` prints it")
    keys = [der[len(PUBLIC) :] for _, der in blocks if der[: len(PUBLIC)] == PUBLIC and len(der) == len(PUBLIC) + SIZE]
    if not keys or len(keys) < len(blocks):
        raise ConfigError(f"{name} holds no Ed25519 public key as PEM: `lapse receipt key > {name}` writes one")
    return [fingerprint(key) for key in keys]


def _are_one(content: bytes, seed: bytes | None, audit: Path) -> bool:
    """Return True if the audit's key file holds the same, in whatever spelling."""
    try:
        other = audit.read_bytes()
    except OSError:
        return False
    mine, theirs = {content, content.strip(), seed}, {other, other.strip(), seed_of(other)}
    return bool(mine & theirs - {None})


def _blocks(text: str) -> Iterable[tuple[str, bytes]]:
    """Return the PEM blocks of a text (RFC 7468), whatever stands around them."""
    for label, encoded in _PEM.findall(text):
        with suppress(binascii.Error):
            yield label, base64.b64decode("".join(encoded.split()), validate=True)


def _pem(label: str, der: bytes) -> str:
    return f"-----BEGIN {label} KEY-----\n{base64.b64encode(der).decode()}\n-----END {label} KEY-----\n"


def _making(path: str) -> str:
    return f"lapse receipt key --new {shlex.quote(path)}"
