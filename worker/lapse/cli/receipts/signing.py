"""Ed25519 (RFC 8032): the only module that imports cryptography. It is imported when something is signed or verified.

Raises:
    ConfigError: on import, if cryptography is not installed.

"""

from lapse.errors import ConfigError

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
except ImportError:
    raise ConfigError(
        "receipts are signed with cryptography, which is not installed: pip install 'PATH/TO/lapse[worker,receipts]'"
    ) from None


def public_of(seed: bytes) -> bytes:
    """Return the public key of a seed: 32 bytes each."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, content: bytes) -> bytes:
    """Return the signature of some bytes: 64 bytes."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign(content)


def signed(public: bytes, signature: bytes, content: bytes) -> bool:
    """Return True if a signature is that of these bytes by the holder of the public key."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True
