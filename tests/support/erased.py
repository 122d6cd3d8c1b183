"""Erasures as tests make them up: a request, what became of its ids, and a receipt of both."""

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from lapse.cli.receipts.document import Issue, document
from lapse.ledger.erasure.request import ErasedId, ErasureAccount, ErasureRequest, Fate, State
from lapse.registry.model import Resource

REQUEST = "0190a5c2-7d0e-7b1c-9f2a-3c5d8e7f6a10"
AT = 1_764_315_000_000
LATE = 86_400_000
DONE = ErasureRequest(
    REQUEST,
    "user:42",
    at=AT,
    until=AT + LATE,
    received=AT - LATE,
    due=AT + 30 * LATE,
    state=State.COMPLETE,
    began=AT + 5_000,
    completed=AT + LATE,
)
ISSUE = Issue(AT + 2 * LATE, "lapse 0.1.0", "3f2a91c0d4e5", None, {})
GONE = ErasedId(Resource("openai", "thread", "thread_1"), Fate.ERASED, "", AT + 9_000, 200, "req_1", "chat")


def gone(*ids: str) -> list[ErasedId]:
    """Return ids that the provider confirmed."""
    return [replace(GONE, resource=Resource("openai", "thread", id_), request_id=f"req_{id_}") for id_ in ids]


def receipt(*ids: ErasedId, request: ErasureRequest = DONE, **issue: Any) -> dict[str, Any]:
    """Return a receipt that is not signed."""
    return document(ErasureAccount(request, ids), replace(ISSUE, **issue))


def _some(text: st.SearchStrategy[str], fate: Fate) -> st.SearchStrategy[ErasedId]:
    return st.builds(
        ErasedId,
        st.builds(Resource, st.sampled_from(["openai", "azure"]), st.sampled_from(["thread", "file"]), text),
        st.just(fate),
        text,
        at=st.none() | st.integers(AT, AT + LATE),
        status=st.none() | st.integers(200, 599),
        request_id=st.none() | text,
        policy=st.none() | text,
        again=st.none() | st.integers(AT, AT + LATE),
    )


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["</script>", "<!--", "\\u003c", "<b>&amp;", '"\\', "\u2028"]
)
RECEIPTS = st.builds(
    lambda ids, subject: receipt(*ids, request=replace(DONE, subject=subject)),
    st.lists(st.sampled_from(list(Fate)).flatmap(lambda fate: _some(TEXT, fate)), max_size=4),
    TEXT,
)
"""Receipts of anything that providers, operators and applications may have said."""
