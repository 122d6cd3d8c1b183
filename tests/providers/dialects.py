"""The rows of the table of outcomes as the other types of provider answer, and objects as they show them."""

import json
from dataclasses import replace
from typing import Any

from lapse.providers.kinds import KINDS
from lapse.providers.outcomes import Outcome
from providers.rows import DELETED, GONE, REFUSED, ROWS, UNCONFIRMED, UNRECOGNISED, UUID, Row, error

ASSISTANT_UUID = "8ff6b072-3b31-4b41-a01f-32e155d015a1"
API_VERSIONS = {"foundry": "v1"}


def idle(object_id: str = UUID, **changes: Any) -> str:
    """Return a LangGraph thread that nothing runs on."""
    thread = {"thread_id": object_id, "created_at": "2026-11-24T10:00:00+00:00", "metadata": {}, "status": "idle"}
    return json.dumps(thread | changes)


def made_by(whom: str, object_id: str = ASSISTANT_UUID, **changes: Any) -> str:
    """Return a LangGraph assistant."""
    shown = {"assistant_id": object_id, "created_at": "2026-11-24T10:00:00+00:00", "name": "waiter"}
    return json.dumps(shown | {"metadata": {"created_by": whom}} | changes)


def detail(text: str) -> str:
    """Return LangGraph's error body."""
    return json.dumps({"detail": text})


def aegra(text: str) -> str:
    """Return Aegra's error body."""
    return json.dumps({"error": "not_found", "message": text})


def _azure(type_: str) -> list[Row]:
    """Return OpenAI's rows at Azure, where one 500 speaks of the credential."""
    rows = [replace(row, type=type_) for row in ROWS if row.kind in KINDS[type_]]
    return [
        replace(row, outcome=Outcome.AUTH, unknown=False) if row.name == "azure tenant" else row for row in rows
    ] + [
        Row("resource", 404, json.dumps({"error": {"code": "404", "message": "Resource not found"}}), type=type_,
            outcome=Outcome.UNRECOGNISED),
        Row("token", 401, json.dumps({"error": {"code": "Unauthorized", "message": "Access token is expired."}}),
            "Access token is expired. [Unauthorized]", type=type_, outcome=Outcome.AUTH),
    ]  # fmt: skip


def _at_langgraph(row: Row) -> Row:
    text = row.body.decode("latin-1") if isinstance(row.body, bytes) else row.body
    body = row.body if isinstance(row.body, bytes) else text.replace(row.object_id, UUID)
    return replace(row, type="langgraph", id=UUID, body=body)


def _langgraph() -> list[Row]:
    """Return the rows of LangGraph: OpenAI's words for a missing object are not its own, and a 204 is an answer."""
    foreign = [replace(row, outcome=Outcome.UNRECOGNISED) for row in GONE if not row.id]
    shared = [*DELETED, *foreign, *UNRECOGNISED, *UNCONFIRMED, *REFUSED]
    own = "langgraph thread", "langgraph's", "204", "latin-1"
    rows = [_at_langgraph(row) for row in shared if row.kind == "thread" and row.name not in own]
    missing = f"Thread with ID {UUID} not found"
    langgraph = Row("own", 404, detail(missing), type="langgraph", id=UUID, outcome=Outcome.ALREADY_GONE)
    return [
        *rows,
        Row("204", 204, type="langgraph", id=UUID, outcome=Outcome.DELETED),
        langgraph,
        replace(langgraph, name="own 410", status=410),
        replace(langgraph, name="own in an envelope", body=error(missing)),
        replace(langgraph, name="another", body=detail(missing.replace("01", "02")), outcome=Outcome.UNRECOGNISED),
        replace(langgraph, name="cut short", body=detail(missing.replace("-5f", " -5f")), outcome=Outcome.UNRECOGNISED),
        replace(langgraph, name="an assistant", body=detail(missing.replace("Thread", "Assistant")),
                outcome=Outcome.UNRECOGNISED),
        replace(langgraph, name="a graph", body=detail("Graph 'x' not found. Expected one of: []"),
                outcome=Outcome.UNRECOGNISED),
        replace(langgraph, name="aegra", body=aegra(f"Thread '{UUID}' not found")),
        replace(langgraph, name="aegra, another", body=aegra("Thread 'x' not found"), outcome=Outcome.UNRECOGNISED),
        replace(langgraph, name="aegra's deletion", status=200, body=json.dumps({"status": "deleted"}),
                outcome=Outcome.DELETED),
        replace(langgraph, name="another status", status=200, body=json.dumps({"status": "ok"}),
                outcome=Outcome.UNCONFIRMED, unknown=True),
        replace(langgraph, name="more than aegra says", status=200, outcome=Outcome.UNCONFIRMED, unknown=True,
                body=json.dumps({"status": "deleted", "thread_id": "another"})),
        replace(langgraph, name="204 with words", status=205, body="", outcome=Outcome.UNCONFIRMED, unknown=True),
    ]  # fmt: skip


DIALECT_ROWS = [*_azure("foundry"), *_azure("azure-openai"), *_langgraph()]
