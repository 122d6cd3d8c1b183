"""Whether a receipt is what was signed: every byte, every record, by whom, and the page around it."""

import base64
import hashlib
import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lapse.cli.receipts import canonical, keys, sealing, signing
from lapse.cli.receipts.sealing import NotVerified
from lapse.ledger.erasure.request import Fate
from support.erased import DONE, GONE, RECEIPTS, gone, receipt

SEED, OTHER = bytes(range(32)), bytes(32)
OURS, THEIRS = (keys.fingerprint(signing.public_of(seed)) for seed in (SEED, OTHER))
MADE = receipt(*gone("t1", "t2", "t3"))
PAGES = st.booleans()
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def altered(content: bytes, trusted: str = OURS) -> str:
    with pytest.raises(NotVerified) as found:
        sealing.verify(content, {trusted})
    return str(found.value)


def shown(content: bytes) -> str:
    """Return the text of a page, as a browser shows it."""
    body = re.sub(r"(?s)<(style|script).*?</\1>", "", content.decode())
    return unescape(re.sub(r"<[^>]*>", " ", body))


@given(RECEIPTS, PAGES)
@settings(max_examples=40)
def test_what_was_signed_is_read_back(made: dict[str, Any], as_page: bool) -> None:
    """Whatever stands in it, and it never leaves its place in the page."""
    content = sealing.seal(made, SEED, as_page=as_page)
    found = sealing.verify(content, {THEIRS, OURS})

    assert made == {name: found[name] for name in made}
    assert ({"key", "page"} if as_page else {"key"}) == set(found) - set(made)
    assert not as_page or 2 == content.lower().count(b"<script") + content.lower().count(b"</script")


@pytest.mark.parametrize("as_page", [False, True])
def test_every_flipped_byte_is_found(as_page: bool) -> None:
    content = sealing.seal(receipt(GONE), SEED, as_page=as_page)
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 8
        altered(bytes(flipped))


@given(st.data(), PAGES)
def test_every_byte_put_in_or_taken_out_or_replaced_is_found(data: st.DataObject, as_page: bool) -> None:
    content = sealing.seal(MADE, SEED, as_page=as_page)
    at = data.draw(st.integers(0, len(content)))
    until = data.draw(st.integers(at, len(content)))
    put = data.draw(st.binary(max_size=3))
    if put != content[at:until]:
        altered(content[:at] + put + content[until:])


@given(st.permutations(range(3)), st.integers(0, 3), PAGES)
def test_every_record_moved_or_taken_out_is_found(order: list[int], kept: int, as_page: bool) -> None:
    found = sealing.verify(sealing.seal(MADE, SEED), {OURS})
    signature = canonical.loads(sealing.seal(MADE, SEED))["signature"]
    ids = [found["ids"][at] for at in order][:kept]
    content = canonical.dumps(found | {"ids": ids, "signature": signature})
    if ids != found["ids"]:
        assert "it was altered" in altered(content)
    else:
        assert found == sealing.verify(content, {OURS})


@given(RECEIPTS, PAGES)
@settings(max_examples=40)
def test_every_signature_by_another_key_is_found(made: dict[str, Any], as_page: bool) -> None:
    """Also one that says it is by the trusted key, or that names it and brings its own."""
    forged = sealing.seal(made, OTHER, as_page=as_page)
    assert THEIRS in altered(forged)

    document = canonical.loads(sealing.seal(made, OTHER))
    mine = {"id": OURS, "public": base64.b64encode(signing.public_of(SEED)).decode()}
    for key in (mine, mine | {"public": document["key"]["public"]}, mine | {"id": THEIRS}):
        said = {name: value for name, value in document.items() if name != "signature"} | {"key": key}
        signature = base64.b64encode(signing.sign(OTHER, canonical.dumps(said))).decode()
        altered(canonical.dumps(said | {"signature": signature}))


def test_two_signatures_that_decode_alike_are_not_taken_for_each_other() -> None:
    document = canonical.loads(sealing.seal(MADE, SEED))
    signature = document["signature"]
    twin = signature[:-3] + ALPHABET[ALPHABET.index(signature[-3]) ^ 1] + "=="

    assert base64.b64decode(signature) == base64.b64decode(twin)
    assert "base64" in altered(canonical.dumps(document | {"signature": twin}))


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("format", "other/1", "its format"),
        ("signature", None, "no key or no signature"),
        ("key", "x", "no key or no signature"),
        ("key", {}, "no key or no signature"),
        ("signature", "AAAA", "the signature is not"),
        ("complete", None, "the signature is not"),
    ],
)
def test_what_is_no_receipt_is_said_to_be_none(name: str, value: object, why: str) -> None:
    assert why in altered(canonical.dumps(canonical.loads(sealing.seal(MADE, SEED)) | {name: value}))


def test_a_document_too_deep_to_be_read_is_no_receipt() -> None:
    assert "it is no receipt" in altered(b'{"a":' * 900 + b"1" + b"}" * 900)


def test_a_page_counts_only_around_the_receipt_that_was_signed_with_it() -> None:
    page, bare = (sealing.seal(MADE, SEED, as_page=as_page) for as_page in (True, False))
    before, rest = page.split(b'id="receipt">')
    inner, after = rest.split(b"</script>")

    assert "page is not the one" in altered(before + b'id="receipt">' + bare + b"</script>" + after)
    assert "embeds nothing" in altered(before)
    assert "embeds is not written" in altered(page.replace(inner, b" " + inner))
    assert MADE["ids"] == sealing.verify(inner, {OURS})["ids"]


def test_the_page_shows_what_the_receipt_says() -> None:
    text = shown(sealing.seal(MADE, SEED, as_page=True))

    for said in (
        "Complete: everything that was found is gone.",
        "user:42",
        "3 ids found: 3 erased.",
        "2025-11-28 07:30:09 UTC",
        "HTTP 200",
        "req_t1",
        "not found",
        MADE["covers"],
        OURS,
    ):
        assert said in text, said
    assert "http" not in re.sub("HTTP|Http|http-equiv", "", sealing.seal(MADE, SEED, as_page=True).decode())


def test_the_page_says_why_it_is_not_complete_and_escapes_what_others_said() -> None:
    bad = "<img src=x onerror=alert(1)>"
    held = replace(GONE, fate=Fate.HELD, detail=bad, at=None, again=DONE.until, policy=None)
    made = receipt(held, request=replace(DONE, subject=bad, doubts=("azure: no worker knows it",)), now=DONE.at)
    content = sealing.seal(made | {"unsubjected": 2}, SEED, as_page=True)
    text = shown(content)

    assert b"<img" not in content
    assert bad in text
    for said in (
        "Not complete",
        "1 id held: a hold forbids the deletion",
        "until 2025-11-29 07:30:00 UTC, what was created before",
        "azure: no worker knows it",
        "2 ids stand in the registry of which nobody said",
        "next try 2025-11-29",
    ):
        assert said in text, said


def test_the_page_of_nothing_says_so() -> None:
    content = sealing.seal(receipt() | {"unsubjected": 1}, SEED, as_page=True)

    assert "Nothing was registered under this subject." in shown(content)
    assert "0 ids found." in shown(content)
    assert "1 id stands in" in shown(content)
    assert b"<table" not in content


def test_the_page_allows_its_own_style_and_nothing_else() -> None:
    content = sealing.seal(MADE, SEED, as_page=True).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', content)
    (style,) = re.findall(r"(?s)<style>(.*?)</style>", content)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    assert f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'" == policy
    assert not re.search(r"(?i)\b(?:src|href|style|on\w+)=", content.replace(policy, ""))
