"""The key that signs receipts and those that are trusted: how they may be written, and when they are refused."""

import base64
import secrets
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from lapse.cli.receipts import keys, signing
from lapse.errors import ConfigError

SEED = bytes(range(32))
PUBLIC = signing.public_of(SEED)
PEM = keys.public_pem(PUBLIC)
PRIVATE = base64.b64encode(keys.PRIVATE + SEED).decode()
BLOCK = f"-----BEGIN PRIVATE KEY-----\n{PRIVATE}\n-----END PRIVATE KEY-----\n"


def written(folder: Path, content: str | bytes, name: str = "key") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize(
    "text", [SEED.hex(), f"{SEED.hex()}\n", base64.b64encode(SEED).decode(), BLOCK, f"mine\n{BLOCK}"]
)
def test_a_seed_is_read_from_pem_hexadecimal_and_base64(tmp_path: Path, text: str) -> None:
    assert SEED == keys.open_seed(written(tmp_path, text), None)


@pytest.mark.parametrize(
    "content",
    [b"", b"x" * 64, SEED, SEED.hex()[:-2], "ü" * 32, PEM, BLOCK.replace("MC4", "MC5"), BLOCK.replace("MC4", "M=4")],
)
def test_what_holds_no_seed_is_refused_with_what_makes_one(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(ConfigError, match=r"holds no Ed25519 key .* `lapse receipt key --new FILE`"):
        keys.open_seed(written(tmp_path, content), None)


def test_a_new_key_is_its_owners_alone_and_takes_no_others_place(tmp_path: Path) -> None:
    path = tmp_path / "key"
    seed = keys.new_seed(path)

    assert (seed, 0o600) == (keys.open_seed(str(path), None), path.stat().st_mode & 0o777)
    with pytest.raises(ConfigError, match="cannot be made: File exists"):
        keys.new_seed(path)
    assert seed == keys.open_seed(str(path), None)


def test_files_are_what_other_programs_read_and_write(tmp_path: Path) -> None:
    theirs = Ed25519PrivateKey.generate()
    pem, pkcs8, spki = Encoding.PEM, PrivateFormat.PKCS8, PublicFormat.SubjectPublicKeyInfo

    assert PEM.encode() == load_pem_private_key(BLOCK.encode(), None).public_key().public_bytes(pem, spki)
    path = written(tmp_path, theirs.private_bytes(pem, pkcs8, NoEncryption()))
    assert theirs.private_bytes_raw() == keys.open_seed(path, None)
    path = written(tmp_path, theirs.public_key().public_bytes(pem, spki))
    assert {keys.fingerprint(theirs.public_key().public_bytes_raw())} == keys.trusted([path])


@pytest.mark.parametrize(
    ("ours", "audits"),
    [
        (SEED.hex(), SEED),
        (SEED.hex(), SEED.hex() + "\n"),
        (base64.b64encode(SEED).decode(), SEED.hex()),
        (BLOCK, base64.b64encode(SEED).decode()),
        (BLOCK, BLOCK),
        (SEED, SEED),
    ],
)
def test_the_audits_key_is_refused_however_it_is_written(tmp_path: Path, ours: bytes, audits: bytes) -> None:
    with pytest.raises(ConfigError, match="holds the audit's key"):
        keys.open_seed(written(tmp_path, ours), written(tmp_path, audits, "audit"))


def test_another_audit_key_is_none_of_its_business(tmp_path: Path) -> None:
    path = written(tmp_path, SEED.hex())

    assert SEED == keys.open_seed(path, written(tmp_path, secrets.token_bytes(32), "audit"))
    assert SEED == keys.open_seed(path, str(tmp_path / "on another host"))


def test_without_a_key_it_is_said_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"\n  lapse receipt key --new receipts.key\n  export LAPSE_RECEIPTS__KEY_FILE="
    ):
        keys.open_seed(None, None)
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file.*`lapse receipt key --new '.*a b'`"):
        keys.open_seed(str(tmp_path / "a b"), None)


def test_a_key_that_everybody_reads_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, SEED.hex())
    Path(path).chmod(0o604)
    with pytest.raises(ConfigError, match=r"\[receipts\] key_file .* can be read by everybody: chmod o= "):
        keys.open_seed(path, None)


def test_trusted_keys_are_fingerprints_or_files_of_them(tmp_path: Path) -> None:
    ours, other = keys.fingerprint(PUBLIC), signing.public_of(bytes(32))
    old = written(tmp_path, f"{ours}\n{PEM}and an old one\n{keys.public_pem(other)}")

    assert {ours} == keys.trusted([ours]) == keys.trusted([ours.removeprefix("sha256:"), ours])
    assert {ours, keys.fingerprint(other)} == keys.trusted([old])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (BLOCK, "holds a private key"),
        ("", "holds no Ed25519 public key"),
        (PEM.replace("MCo", "MCp"), "holds no Ed25519 public key"),
        (PEM.replace("=", ""), "holds no Ed25519 public key"),
        (PEM + PEM.replace("MCo", "MCp"), "holds no Ed25519 public key"),
    ],
)
def test_what_is_no_public_key_is_refused(tmp_path: Path, content: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        keys.trusted([written(tmp_path, content)])


def test_a_name_that_is_neither_is_refused() -> None:
    with pytest.raises(ConfigError, match="sha256:abc is no fingerprint, and no file that can be read"):
        keys.trusted(["sha256:abc"])
