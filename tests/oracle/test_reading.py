"""What the oracle reads: it stands alone, and reads paths, bodies, policy files and expositions by itself."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oracle.history import Account, Policy
from oracle.reading import Asked, accounts, asked, audit, metrics, policies, request, seconds

FOLDER = Path(__file__).parent
DAY = 86400.0


def test_the_oracle_imports_nothing_of_lapse() -> None:
    for path in sorted(set(FOLDER.glob("*.py")) - set(FOLDER.glob("test_*.py")) - {FOLDER / "conftest.py"}):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            foreign = [name for name in names if name.split(".")[0] not in {"oracle", *sys.stdlib_module_names}]
            assert not foreign, f"{path.name} imports {foreign}"
    loaded = "import sys, oracle.verdict; print([name for name in sys.modules if name.split('.')[0] == 'lapse'])"
    alone = subprocess.run(
        [sys.executable, "-c", loaded], cwd=FOLDER.parent, capture_output=True, text=True, check=True
    )
    assert "[]" == alone.stdout.strip()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/threads/thread_1", Asked("thread", "thread_1")),
        ("/v1/threads/a%2Fb?x=1", Asked("thread", "a/b")),
        ("/api/projects/P/assistants/asst_1?api-version=v1", Asked("assistant", "asst_1")),
        ("/v1/conversations/conv_1/items/msg_1", Asked("conversation_item", "msg_1", "conversation", "conv_1")),
        ("/v1/vector_stores/vs_1/files/file_1", Asked("vector_store_file", "file_1", "vector_store", "vs_1")),
        ("/v1/chat/completions/c1", Asked("chat_completion", "c1")),
        ("/v1/conversations/conv_1/items", None),
        ("/v1/threads", None),
        ("/", None),
    ],
)
def test_a_path_names_an_object(path: str, expected: Asked | None) -> None:
    assert expected == asked(path)


THREAD, ITEM = "/v1/threads/t1", "/v1/conversations/c1/items/m1"
GONE = {"id": "t1", "object": "thread.deleted", "deleted": True}


@pytest.mark.parametrize(
    ("path", "status", "body", "confirmed"),
    [
        (THREAD, 200, GONE, True),
        (THREAD, 204, "", False),
        ("/threads/t1", 204, "", True),
        (THREAD, 200, GONE | {"id": "t2"}, False),
        (THREAD, 200, GONE | {"deleted": False}, False),
        (THREAD, 200, GONE | {"deleted": "true"}, False),
        (THREAD, 200, "", False),
        (THREAD, 200, "<html>", False),
        (THREAD, 200, [], False),
        (THREAD, 200, {"id": "t1"}, False),
        (THREAD, 202, GONE, False),
        (THREAD, 404, GONE, False),
        ("/v1/threads", 200, GONE, False),
        (ITEM, 200, {"id": "c1", "object": "conversation"}, True),
        (ITEM, 200, {"id": "m1", "deleted": True}, True),
        (ITEM, 200, {"id": "c2"}, False),
    ],
)
def test_only_an_answer_that_says_so_confirms(path: str, status: int, body: Any, *, confirmed: bool) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    record = {"provider": "openai", "begun": 1.0, "ended": 2.0, "method": "DELETE", "path": path, "status": status}

    assert confirmed is request({**record, "body": text}).confirmed
    assert not request({**record, "body": text, "method": "GET"}).confirmed
    assert not request({**record, "body": text, "ended": None}).confirmed


def test_an_exposition_is_read_by_series() -> None:
    text = '# HELP a b\nup 1.0\nrequests_total{status="200",op="delete"} 3.0\nodd{text="a\\"b,c=\\"d"} 1e3\n'
    assert {
        ("up", frozenset()): 1.0,
        ("requests_total", frozenset({("op", "delete"), ("status", "200")})): 3.0,
        ("odd", frozenset({("text", 'a\\"b,c=\\"d')})): 1000.0,
    } == metrics(text)


def test_audit_lines_are_told_from_other_output() -> None:
    assert [{"event": "intent"}] == audit(["a word of celery", '{"event": "intent"}\n', ""])


def test_durations_are_read() -> None:
    assert [0.1, 90.0, 3600.0, 1.5 * DAY, 14 * DAY] == [
        pytest.approx(seconds(text)) for text in ("100ms", "90s", "1h", "1d 12h", "2w")
    ]


FILE = """
[limits]
max_deletions = { amount = 7, window = "2h" }
[providers.openai]
type = "openai"
rate = "120/m"
[providers.other]
rate = "unlimited"
[providers.slow]
[policies.chat]
kind = ["thread", "conversation"]
ttl = "7d"
anchor = "last_active_at"
max_age = "365d"
formerly = ["old"]
mode = "enforce"
[policies.idle]
provider = "other"
kind = "assistant"
orphan = { min_age = "2d", seen = 3 }
max_deletions = "unlimited"
"""


def test_a_policy_file_is_read_by_kind() -> None:
    chat = Policy(
        "openai",
        "thread",
        "chat",
        7 * DAY,
        "last_active_at",
        365 * DAY,
        amount=7,
        window=7200.0,
        formerly=("old",),
        newly=(20, 100),
        since=5.0,
    )
    idle = Policy("other", "assistant", "idle", None, None, orphan=2 * DAY, enforce=False, newly=(20, 100), since=5.0)

    thread, conversation, assistant = policies(FILE, 5.0)

    assert (chat, "conversation", idle) == (thread, conversation.kind, assistant)
    assert [Account("openai", 2.0, 2), Account("other"), Account("slow", 1.0, 1)] == list(accounts(FILE))
