"""What an exchange says: an answer as a whole, piece by piece, cut, and out of a stream."""

import gzip
import json
import sys
import zlib
from typing import Any

import pytest

from lapse.tracking import reading
from lapse.tracking.apis.endpoints import Endpoints, Name
from lapse.tracking.apis.langgraph import LANGGRAPH_ENDPOINTS
from lapse.tracking.apis.openai import OPENAI_ENDPOINTS
from lapse.tracking.reading import AnswerBody, UnreadableAnswer, asked, parser
from lapse.tracking.statements import KnownRequest, Means, Statement

JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}


def exchange(method: str, path: str, body: Any = None, endpoints: Endpoints = OPENAI_ENDPOINTS) -> KnownRequest:
    found = endpoints.find(method, path)
    assert found is not None
    return KnownRequest(endpoints, found, body)


def said(statements: Any) -> list[tuple[str, str, str]]:
    return [(one.means.name, one.object.kind, one.object.id) for one in statements]


def body_of(of: KnownRequest, headers: dict[str, str] | None = None) -> AnswerBody:
    """Return an answer to be read; in an encoding of its own, its text stands backwards."""
    return AnswerBody(of, headers or JSON, json.loads, lambda body, _encoding: body[::-1])


def answer(
    of: KnownRequest, *chunks: bytes, headers: dict[str, str] | None = None, cut: bool = False
) -> list[tuple[str, str, str]]:
    """Return what an answer says in pieces."""
    made = body_of(of, headers)
    found = [one for chunk in chunks for one in made.passed(chunk)]
    return said(found + made.ended(cut=cut))


THREAD = exchange("POST", "/threads")
CREATED = [("CREATED", "thread", "thread_1")]


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (exchange("GET", "/threads/thread_1"), [("USED", "thread", "thread_1")]),
        (exchange("POST", "/threads/thread_1/runs", {"assistant_id": "asst_1"}),
         [("USED", "thread", "thread_1"), ("USED", "assistant", "asst_1")]),
        (exchange("GET", "/vector_stores/vs_1/files/file_1"),
         [("USED", "vector_store", "vs_1"), ("USED", "file", "file_1")]),
        (exchange("POST", "/responses", {"conversation": "conv_1"}), [("USED", "conversation", "conv_1")]),
        (exchange("DELETE", "/threads/thread_1"), []),
        (exchange("POST", "/threads/t1/runs", {"assistant_id": "a", "if_not_exists": "create"}, LANGGRAPH_ENDPOINTS),
         [("SEEN", "thread", "t1"), ("USED", "assistant", "a")]),
        (exchange("POST", "/threads/t1/runs", {"assistant_id": "a"}, LANGGRAPH_ENDPOINTS),
         [("USED", "thread", "t1"), ("USED", "assistant", "a")]),
    ],
)  # fmt: skip
def test_what_a_successful_request_says_by_itself(of: KnownRequest, expected: list[tuple[str, str, str]]) -> None:
    assert said(of.asked()) == expected


def test_what_an_owner_in_the_path_is_said_to_use() -> None:
    (thread, _) = exchange("POST", "/threads/thread_1/runs", {"assistant_id": "asst_1"}).asked()
    (created,) = exchange("POST", "/threads", {"messages": [{"attachments": [{"file_id": "file_1"}]}]}).created(
        "thread_1"
    )

    assert thread.uses == (Name("assistant", "asst_1"),)
    assert created.uses == (Name("file", "file_1"),)


@pytest.mark.parametrize(
    ("of", "body", "expected"),
    [
        (THREAD, {"id": "thread_1"}, CREATED),
        (THREAD, {"id": ""}, []),
        (THREAD, {"id": 7}, []),
        (THREAD, [], []),
        (exchange("POST", "/responses", {"store": False}), {"id": "resp_1"}, []),
        (exchange("GET", "/threads/thread_1"), {"id": "thread_1"}, [("USED", "thread", "thread_1")]),
        (exchange("GET", "/threads/thread_1/messages"), {"id": "other"}, []),
        (exchange("GET", "/batches/batch_1"), {"id": "batch_1", "output_file_id": "file_1", "error_file_id": None},
         [("SEEN", "file", "file_1")]),
        (exchange("POST", "/threads/runs"), {"id": "run_1", "thread_id": "thread_1", "assistant_id": "asst_1"},
         [*CREATED, ("USED", "thread", "thread_1"), ("USED", "assistant", "asst_1")]),
        (exchange("POST", "/threads", {"tool_resources": {"file_search": {"vector_stores": [{}]}}}),
         {"id": "thread_1", "tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}}},
         [*CREATED, ("SEEN", "vector_store", "vs_1")]),
        (exchange("POST", "/threads", {"tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}}}),
         {"id": "thread_1", "tool_resources": {"file_search": {"vector_store_ids": ["vs_1"]}}},
         [*CREATED, ("USED", "vector_store", "vs_1")]),
        (exchange("POST", "/runs", {"on_completion": "keep"}, LANGGRAPH_ENDPOINTS), {"thread_id": "t1"},
         [("SEEN", "thread", "t1")]),
        (exchange("POST", "/threads", {"if_exists": "do_nothing"}, LANGGRAPH_ENDPOINTS), {"thread_id": "t1"},
         [("SEEN", "thread", "t1")]),
        (exchange("POST", "/threads", {"if_exists": "raise"}, LANGGRAPH_ENDPOINTS), {"thread_id": "t1"},
         [("CREATED", "thread", "t1")]),
        (exchange("POST", "/uploads/upload_1/complete"), {"id": "upload_1", "file": {"id": "file_1"}},
         [("CREATED", "file", "file_1")]),
        (exchange("DELETE", "/threads/thread_1"), {"id": "thread_1", "object": "thread.deleted", "deleted": True},
         [("DELETED", "thread", "thread_1")]),
        (exchange("DELETE", "/threads/thread_1"), {"id": "thread_2", "object": "thread.deleted", "deleted": True}, []),
        (exchange("DELETE", "/threads/thread_1"), {"id": "thread_1", "object": "thread.deleted", "deleted": False}, []),
        (exchange("DELETE", "/threads/thread_1"), {"id": "thread_1", "object": "thread", "deleted": True}, []),
        (exchange("DELETE", "/threads/thread_1"), "deleted", []),
        (exchange("DELETE", "/threads/t1", None, LANGGRAPH_ENDPOINTS), {"status": "deleted"},
         [("DELETED", "thread", "t1")]),
        (exchange("DELETE", "/threads/t1", None, LANGGRAPH_ENDPOINTS), {"status": "pending"}, []),
    ],
)  # fmt: skip
def test_what_an_answer_says(of: KnownRequest, body: Any, expected: list[tuple[str, str, str]]) -> None:
    assert answer(of, json.dumps(body).encode()) == expected


def test_a_bare_204_confirms_a_deletion_where_the_api_has_it_so() -> None:
    assert answer(exchange("DELETE", "/threads/t1", None, LANGGRAPH_ENDPOINTS)) == [("DELETED", "thread", "t1")]
    assert answer(exchange("DELETE", "/threads/thread_1")) == []


def test_two_statements_about_one_object_are_one() -> None:
    one = Statement(Means.USED, Name("file", "f"), (Name("file", "a"),))
    two = Statement(Means.SEEN, Name("file", "f"), (Name("file", "b"),), {"id": "f"})

    assert two.and_(one) == Statement(
        Means.SEEN, Name("file", "f"), (Name("file", "a"), Name("file", "b")), {"id": "f"}
    )
    assert one.and_(two).answer == {"id": "f"}


BODY = json.dumps({"id": "thread_1", "object": "thread"}).encode()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("", BODY),
        ("identity", BODY),
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("br", BODY[::-1]),
    ],
    ids=["none", "identity", "gzip", "deflate", "br"],
)
def test_an_answer_is_read_piece_by_piece(encoding: str, body: bytes) -> None:
    pieces = [body[start : start + 5] for start in range(0, len(body), 5)]

    assert answer(THREAD, *pieces, headers={**JSON, "content-encoding": encoding}) == CREATED


def test_what_cannot_be_decoded_is_said_once() -> None:
    with pytest.raises(UnreadableAnswer, match="br-encoded"):
        body_of(THREAD, {**EVENTS, "content-encoding": "br"})
    made = body_of(THREAD, {**JSON, "content-encoding": "gzip"})
    with pytest.raises(UnreadableAnswer, match="cannot be decoded"):
        made.passed(b"no gzip")
    assert made.passed(b"more") == made.ended() == []
    assert made.silent


@pytest.mark.parametrize(("body", "expected"), [(BODY[:-3], CREATED), (b"", []), (b"  ", [])])
def test_of_an_answer_that_was_cut_its_id_is_known(body: bytes, expected: list[tuple[str, str, str]]) -> None:
    assert answer(THREAD, body, cut=True) == expected


@pytest.mark.parametrize(("cut", "why"), [(True, "it was cut"), (False, "it is no JSON")])
def test_an_answer_without_an_id_to_find_is_unreadable(cut: bool, why: str) -> None:
    made = body_of(THREAD)
    made.passed(b'{"object": "thr')
    with pytest.raises(UnreadableAnswer, match=why):
        made.ended(cut=cut)
    assert made.ended(cut=cut) == []


def test_of_a_long_answer_the_beginning_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST", 100)
    assert answer(THREAD, BODY[:-1], b" " * 200, b"more", b"}") == CREATED
    with pytest.raises(UnreadableAnswer, match="longer than 100"):
        answer(THREAD, b'{"object": "thread", ' + b" " * 200)
    with pytest.raises(UnreadableAnswer, match="an event is longer"):
        answer(THREAD, b"data: " + b"x" * 200, headers=EVENTS)


def test_a_stream_says_each_object_once() -> None:
    response = exchange("POST", "/responses")
    events = [
        b"event: response.created\r\ndata: "
        + json.dumps({"response": {"id": "resp_1", "output": []}}).encode()
        + b"\r\n\r\n",
        b": a comment\n",
        b'event: response.output_text.delta\ndata: {"delta": "x"}\n\n',
        b"data: "
        + json.dumps(
            {"type": "response.completed", "response": {"id": "resp_1", "output": [{"container_id": "c"}]}}
        ).encode()
        + b"\n\n",
        b"event: response.failed\ndata: half a word\n\n",
        b"event: response.failed\ndata: []\n\ndata: [DONE]\n\n",
    ]
    made = body_of(response, EVENTS)

    assert [said(made.passed(event)) for event in events] == [
        [("CREATED", "response", "resp_1")], [], [], [], [], [],
    ]  # fmt: skip
    assert made.streamed
    assert not made.silent
    assert made.ended() == []


def test_a_stream_of_data_without_types_is_read_until_it_says_its_object() -> None:
    completion = exchange("POST", "/chat/completions", {"store": True})
    chunk = b"data: " + json.dumps({"id": "chatcmpl_1", "object": "chat.completion.chunk"}).encode() + b"\n\n"

    assert answer(completion, chunk[:9], chunk[9:], chunk, headers=EVENTS) == [
        ("CREATED", "chat_completion", "chatcmpl_1")
    ]
    assert answer(exchange("GET", "/threads/thread_1"), chunk, headers=EVENTS) == []


def test_what_is_created_and_said_nothing_of_is_silent() -> None:
    assert THREAD.found.endpoint.reads_answer
    assert not exchange("GET", "/threads/thread_1").found.endpoint.reads_answer
    assert body_of(THREAD).silent
    assert not body_of(exchange("GET", "/threads/thread_1")).silent
    assert not body_of(exchange("POST", "/responses", {"store": False})).silent


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"store": false}', {"store": False}),
        (b"no json", None),
        (b'{"store" : true, "input": "' + b"x" * 100, {"store": True}),
        (b'{"input": "' + b"x" * 100, None),
    ],
)
def test_a_request_is_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch, body: bytes, says: Any) -> None:
    monkeypatch.setattr(reading, "MOST_ASKED", 100)

    assert asked(body, json.loads) == says


def test_json_is_read_by_what_the_sdk_brings_or_by_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parser().__module__.startswith("jiter")
    monkeypatch.setitem(sys.modules, "jiter", None)
    assert parser() is json.loads
