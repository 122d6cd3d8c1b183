"""What a receipt says: when it is complete, what it names, and the form that its bytes have."""

import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from lapse.audit.chain import Sealed
from lapse.cli.receipts import canonical
from lapse.cli.receipts.document import COVERS
from lapse.ledger.erasure.request import Fate, State
from support.erased import AT, DONE, GONE, LATE, REQUEST, TEXT, gone, receipt

NAMES = st.text(st.characters(codec="ascii"), max_size=8)
NUMBERS = st.integers(-canonical.LARGEST, canonical.LARGEST)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


def open_id(fate: Fate) -> Any:
    return replace(GONE, fate=fate, at=None, status=None, request_id=None, detail="case 7 of user:42", again=AT + LATE)


@settings(max_examples=50)
@given(st.dictionaries(NAMES, VALUES, max_size=6))
def test_the_form_is_that_of_rfc_8785_and_is_read_back(value: dict[str, Any]) -> None:
    content = canonical.dumps(value)

    assert rfc8785.dumps(value) == content
    assert value == canonical.loads(content)


@pytest.mark.parametrize("value", [1.5, 2**53, -(2**53), {"ü": 1}, {1: 1}, ("a",), b"a", [[float("nan")]], "\ud800"])
def test_what_has_no_such_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical.dumps({"a": value})


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": 1}',
        b'{"a":1}\n',
        b'{"b":1,"a":1}',
        b'{"a":"\\u0041"}',
        b'{"a":1e0}',
        b'{"a":1,"a":1}',
        b"[]",
        b"",
        b"\xff",
    ],
)
def test_another_spelling_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        canonical.loads(content)


def test_it_says_what_was_asked_found_and_answered() -> None:
    place = Sealed("openai/thread/e/1-0/k", 4711, "", bytes(32), b"")
    made = receipt(*gone("t2", "t1"), places={replace(GONE.resource, id="t1"): place})

    assert (True, 2, {"erased": 2}, [], None) == tuple(
        made[name] for name in ("complete", "found", "counts", "reasons", "open_until")
    )
    assert COVERS == made["covers"]
    assert ("user:42", "in clear", "lapse 0.1.0", "3f2a91c0d4e5") == tuple(
        made[name] for name in ("subject", "names", "tool", "policy")
    )
    assert {
        "id": REQUEST,
        "received": "2025-11-27T07:30:00.000+00:00",
        "at": "2025-11-28T07:30:00.000+00:00",
        "began": "2025-11-28T07:30:05.000+00:00",
        "completed": "2025-11-29T07:30:00.000+00:00",
        "due": "2025-12-28T07:30:00.000+00:00",
        "until": "2025-11-29T07:30:00.000+00:00",
    } == made["request"]
    first, second = made["ids"]
    assert {
        "provider": "openai",
        "kind": "thread",
        "id": "t1",
        "outcome": "erased",
        "detail": "",
        "at": "2025-11-28T07:30:09.000+00:00",
        "status": 200,
        "request_id": "req_t1",
        "policy": "chat",
        "next_try": None,
        "audit": {"chain": "openai/thread/e/1-0/k", "n": 4711, "mac": "00" * 32},
    } == first
    assert ("t2", None) == (second["id"], second["audit"])


@pytest.mark.parametrize(
    ("fates", "changes", "now", "complete", "reasons"),
    [
        ([], {}, 2 * LATE, None, []),
        ([], {}, 0, None, ["late"]),
        ([Fate.ERASED, Fate.ALREADY_GONE], {}, LATE, True, []),
        ([Fate.ERASED], {}, LATE - 1, False, ["late"]),
        ([Fate.ERASED], {"state": State.OPEN}, LATE, False, ["not_concluded"]),
        ([Fate.ERASED], {"began": None}, LATE, False, ["not_concluded"]),
        ([Fate.ERASED], {"doubts": ("azure: no worker knows it",)}, LATE, False, ["azure: no worker knows it"]),
        ([Fate.ERASED, Fate.HELD, Fate.PENDING], {}, LATE, False, ["held", "pending"]),
        ([Fate.IN_USE, Fate.UNPROVABLE, Fate.HELD], {}, 0, False, ["held", "in_use", "unprovable", "late"]),
    ],
)
def test_it_is_complete_only_if_nothing_is_open(
    fates: list[Fate], changes: dict[str, Any], now: int, complete: bool | None, reasons: list[str]
) -> None:
    made = receipt(*map(open_id, fates), request=replace(DONE, **changes), now=AT + now)

    assert (complete, reasons) == (made["complete"], made["reasons"])
    assert (made["request"]["until"] if "late" in reasons else None) == made["open_until"]


def test_hashed_it_holds_no_name_and_no_words_that_may_hold_one() -> None:
    made = receipt(*gone("t1"), open_id(Fate.HELD), salt=b"00ff")
    text = json.dumps(made)

    def hashed(name: str) -> str:
        return "hmac:" + hmac.new(b"00ff", name.encode(), hashlib.sha256).hexdigest()

    assert hashed("user:42") == made["subject"]
    assert {hashed("t1"), hashed("thread_1")} == {one["id"] for one in made["ids"]}
    assert all(word not in text for word in ("user:42", "thread_1", '"t1"', "case 7"))
    assert "HMAC-SHA-256" in made["names"]


def test_an_id_that_is_not_gone_has_no_place_in_the_audit() -> None:
    place = Sealed("openai/thread/e/1-0/k", 1, "", bytes(32), b"")
    (told,) = receipt(open_id(Fate.PENDING), places={GONE.resource: place})["ids"]

    assert (None, "2025-11-29T07:30:00.000+00:00") == (told["audit"], told["next_try"])
