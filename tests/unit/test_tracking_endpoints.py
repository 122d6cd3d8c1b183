"""What a path and a body name."""

import json

import pytest

from lapse.tracking.apis.endpoints import Endpoint, Name, Reference, said, values
from lapse.tracking.apis.openai import OPENAI_ENDPOINTS
from lapse.tracking.stamps import stamped

STAMP = {"lapse": "lapse/e1/chat/n1"}


def test_ids_in_a_path_are_those_of_known_parameters() -> None:
    found = OPENAI_ENDPOINTS.find("GET", "/vector_stores/vs_1/files/file-2")

    assert found is not None
    assert found.named == (Name("vector_store", "vs_1"), Name("file", "file-2"))
    assert OPENAI_ENDPOINTS.find("GET", "/containers/cntr_1/files/cfile_2").named == (Name("container", "cntr_1"),)  # type: ignore[union-attr]
    assert OPENAI_ENDPOINTS.find("GET", "/vector_stores//files/file-2") is None
    assert OPENAI_ENDPOINTS.find("GET", "/vector_stores/vs_1/others/file-2") is None
    assert OPENAI_ENDPOINTS.find("POST", "/embeddings") is None
    assert OPENAI_ENDPOINTS.find("POST", "/threads/runs").named == ()  # type: ignore[union-attr]


def test_what_a_body_names_is_found_wherever_it_stands() -> None:
    body = {
        "conversation": {"id": "conv_1"},
        "previous_response_id": "resp_1",
        "input": [{"content": [{"type": "input_file", "file_id": "file-1"}, {"text": "file_id"}]}, "text"],
        "tools": [
            {"type": "file_search", "vector_store_ids": ["vs_1", "", 7]},
            {"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["file-2"]}},
            {"type": "shell", "environment": {"type": "reference", "container_id": "cntr_1"}},
        ],
        "metadata": {"file_id": "file-of-somebody"},
        "annotations": [{"container_id": "cntr_2", "file_id": "cfile_1"}],
    }

    assert set(OPENAI_ENDPOINTS.named(body)) == {
        Name("conversation", "conv_1"),
        Name("response", "resp_1"),
        Name("file", "file-1"),
        Name("vector_store", "vs_1"),
        Name("file", "file-2"),
        Name("container", "cntr_1"),
        Name("container", "cntr_2"),
    }
    assert list(OPENAI_ENDPOINTS.named("conversation")) == []


def test_a_path_through_lists_gives_every_value() -> None:
    body = {"output": [{"container_id": "a"}, {"other": 1}, {"container_id": "b"}], "file": {"id": "f"}}

    assert [name.id for name in Reference("container", "output[].container_id").names(body)] == ["a", "b"]
    assert [name.id for name in Reference("file", "file").names(body)] == ["f"]
    assert list(values([], "file")) == [None]
    assert list(values({"ids": ["a", "b"]}, "ids[]")) == ["a", "b"]
    assert list(values({"output": None}, "output[].container_id")) == []


@pytest.mark.parametrize(
    ("body", "condition", "holds"),
    [
        ({}, "", True),
        ({"if_not_exists": "create"}, "if_not_exists=create", True),
        ({"if_not_exists": "reject"}, "if_not_exists=create", False),
        ({"tool_resources": {"stores": [1]}}, "tool_resources.stores", True),
        ({"tool_resources": {}}, "tool_resources.stores", False),
        (None, "tool_resources.stores", False),
    ],
)
def test_a_condition_on_the_request(body: object, condition: str, *, holds: bool) -> None:
    assert said(body, condition) is holds


@pytest.mark.parametrize(
    ("store", "body", "kept"),
    [
        (None, {"store": False}, True),
        (True, {}, True),
        (True, None, True),
        (True, {"store": None}, True),
        (True, {"store": False}, False),
        (False, {}, False),
        (False, {"store": True}, True),
    ],
)
def test_whether_the_provider_keeps_what_was_made(store: bool | None, body: object, *, kept: bool) -> None:
    assert Endpoint("POST", "/responses", creates="response", store=store).keeps(body) is kept


@pytest.mark.parametrize(
    ("body", "comes_to"),
    [
        (b"", b'{"metadata":{"lapse":"lapse/e1/chat/n1"}}'),
        (b"{}", b'{"metadata":{"lapse":"lapse/e1/chat/n1"}}'),
        (b' { "a": 1.0 }', b'{"metadata":{"lapse":"lapse/e1/chat/n1"},"a": 1.0 }'),
        (b'{"metadata":null,"a":"\xc3\xa4"}', b'{"metadata":{"lapse":"lapse/e1/chat/n1"},"a":"\xc3\xa4"}'),
        (b'{"a":1,"metadata":{"b":"c"}}', b'{"a":1,"metadata":{"b":"c","lapse":"lapse/e1/chat/n1"}}'),
        (b'{"metadata":{"lapse":"mine"}}', None),
        (b'{"metadata":"text"}', None),
        (json.dumps({"metadata": {str(n): "x" for n in range(16)}}).encode(), None),
        (b"[]", None),
        (b"no json", None),
    ],
)
def test_only_the_stamp_is_added(body: bytes, comes_to: bytes | None) -> None:
    assert stamped(body, STAMP) == comes_to
