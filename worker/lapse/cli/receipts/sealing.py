"""Receipts signed, and receipts verified: whether these bytes are what the holder of a trusted key signed."""

import base64
from collections.abc import Collection
from typing import Any, NamedTuple

from lapse.cli.receipts import canonical, page, signing
from lapse.cli.receipts.document import FORMAT
from lapse.cli.receipts.keys import fingerprint


class NotVerified(Exception):
    """A file that is no receipt, not the one that was signed, or signed with a key that nobody trusts; and why."""


def seal(document: dict[str, Any], seed: bytes, *, as_page: bool = False) -> bytes:
    """Return the file of a receipt: the document with its key and signature, as JSON or as a page that embeds that.

    The signature (RFC 8032) covers all else that stands in the document, in its canonical form; of a page that
    includes a digest of everything around the document.
    """
    unsigned = document | {"key": _key(signing.public_of(seed))}
    if not as_page:
        return _signed(unsigned, seed)
    around = page.around(unsigned)
    return around.filled(_signed(unsigned | {"page": around.digest}, seed))


def verify(content: bytes, trusted: Collection[str]) -> dict[str, Any]:
    """Return what a file says, once it is certain that the holder of a trusted key signed all of it.

    The file is made again from what was read, signature included, and has to be the same to the byte.

    Args:
        content: The file, JSON or a page.
        trusted: Fingerprints of keys. The one that stands in the file proves nothing by itself.

    Raises:
        NotVerified: it is not.

    """
    try:
        read = _read(content)
    except (ValueError, RecursionError) as error:
        raise NotVerified(f"it is no receipt, or was altered: {error}") from None
    except (LookupError, TypeError):
        raise NotVerified("it is no receipt, or was altered: it has no key or no signature") from None
    known = fingerprint(read.public)
    if known not in trusted:
        raise NotVerified(f"it is signed with the key {known}, which is none of those that you trust")
    if read.page is not None and read.document.get("page") != read.page:
        raise NotVerified("it was altered: the page is not the one that was signed with what it embeds")
    if read.document["key"] != _key(read.public) or not signing.signed(read.public, read.signature, read.said):
        raise NotVerified("it was altered: the signature is not that of what it says")
    return read.document


class _Read(NamedTuple):
    """A file taken apart; nothing is checked but its form."""

    document: dict[str, Any]
    """Without the signature."""
    public: bytes
    signature: bytes
    page: str | None
    """The digest of what stands around it; None: nothing does."""

    @property
    def said(self) -> bytes:
        """What the signature has to cover."""
        return canonical.dumps(self.document)


def _read(content: bytes) -> _Read:
    digest = None
    if page.is_one(content):
        around, content = page.taken_apart(content)
        digest = around.digest
    document = canonical.loads(content)
    if document.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    signature = _bytes(document.pop("signature"))
    return _Read(document, _bytes(document["key"]["public"]), signature, digest)


def _signed(document: dict[str, Any], seed: bytes) -> bytes:
    signature = signing.sign(seed, canonical.dumps(document))
    return canonical.dumps(document | {"signature": _text(signature)})


def _key(public: bytes) -> dict[str, str]:
    return {"id": fingerprint(public), "public": _text(public)}


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _bytes(text: str) -> bytes:
    """Return what a text in base64 says; of several texts that say the same, one alone is taken."""
    value = base64.b64decode(text, validate=True)
    if _text(value) != text:
        raise ValueError("its base64 is not written as receipts are")
    return value
