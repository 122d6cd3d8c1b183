"""A request to erase a subject as it is stored, and what is counted of what it found."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapse.errors import InvalidResource
from lapse.ledger.erasure.request import GONE, ErasedId, ErasureAccount, ErasureRequest, Fate, State
from lapse.registry.facts import request_id
from lapse.registry.model import Resource

ID = "0e8a3ad6-5a0e-4d6f-8d5e-00c2f3f0a9b1"
ASKED = ErasureRequest(ID, "user:42", 5, 10, 4, 20)
times = st.integers(1, 1 << 52)
requests = st.builds(
    ErasureRequest,
    id=st.just(ID),
    subject=st.text(),
    at=times,
    until=times,
    received=times,
    due=times,
    reason=st.text(),
    actor=st.text(),
    by_application=st.booleans(),
    taken=st.none() | times,
    providers=st.lists(st.text()).map(tuple),
    state=st.sampled_from(State),
    began=st.none() | times,
    completed=st.none() | times,
    counts=st.dictionaries(st.sampled_from(list(map(str, Fate))), times),
    doubts=st.lists(st.text()).map(tuple),
)


@given(requests)
def test_what_is_stored_is_read_again(request: ErasureRequest) -> None:
    assert ErasureRequest.read(ID, request.stored()) == request


def test_what_says_nothing_is_not_stored() -> None:
    assert json.loads(ASKED.stored()) == {
        "subject": "user:42", "at": 5, "until": 10, "received": 4, "due": 20, "state": "open"
    }  # fmt: skip


def test_what_an_application_asks_for_is_read_with_what_it_does_not_say() -> None:
    asked = ErasureRequest.read(
        ID, b'{"subject":"user:42","at":5,"received":4,"actor":"app","later":"a field of 2027"}'
    )

    assert asked == replace(ASKED, until=0, due=0, actor="app")


def test_an_account_counts_each_fate_and_names_what_is_open() -> None:
    fates = [Fate.ERASED, Fate.HELD, Fate.ERASED, Fate.ALREADY_GONE]
    ids = [ErasedId(Resource("openai", "thread", f"t{n}"), fate) for n, fate in enumerate(fates)]
    account = ErasureAccount(ASKED, ids)

    assert account.counts == {"erased": 2, "already_gone": 1, "held": 1}
    assert account.open == (ids[1],)
    assert {"erased", "already_gone"} == GONE


@pytest.mark.parametrize("said", [ID, ID.upper(), ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}"])
def test_a_request_id_has_one_form(said: str) -> None:
    assert ID == request_id(said)


@pytest.mark.parametrize("said", ["", "7", ID[:-1], ID + "0", "0" * 32, None, 7, ID.encode()], ids=repr)
def test_what_is_no_request_id_is_refused_with_one_that_is(said: object) -> None:
    with pytest.raises(InvalidResource, match=r"request id .*: give a UUID, such as [0-9a-f-]{36}$"):
        request_id(said)
