"""Every reply of Redis to what waited in a spool: the second table of docs/testing.md."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cells.line import CLASSES, Line
from lapse import Registry
from lapse.errors import RegistryUnavailable
from lapse.registry.commands import Commands
from lapse.registry.spool import spool, statements
from lapse.registry.spool.statements import Origin
from lapse.registry.spool.store import SpoolStore
from support.documented import rows, table

HEADING = "Replies to what waited in a spool"
COLUMN = "a late registration"
IDS = ["t1", "t2"]


@pytest.fixture
def line(redis_url: str) -> Iterator[Line]:
    with Line(redis_url) as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    commands = Commands("lapse", "openai")
    with SpoolStore(tmp_path / "one.spool", wait=5) as store:
        for id_ in IDS:
            operation = commands.register(commands.registration("thread", id_, "chat", subject="user:1"))
            store.append(statements.of(operation, Origin("lapse", 0), None))
        return store.path


def test_every_reply_is_a_case() -> None:
    assert tuple(rows(HEADING)) == CLASSES


@pytest.mark.parametrize("class_", CLASSES)
def test_what_waited_is_sent_once_waits_on_or_is_named(
    redis_url: str,
    line: Line,
    path: Path,
    class_: str,
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spool, "REPLY", 0.5)
    line.break_("register", class_)

    seen = flushed(path, line.url)

    assert (table(HEADING)[class_, COLUMN], 1) == (seen, line.hits)
    wait_until(lambda: not line.late, what="the end of what is late")
    if seen == "waits":
        assert flushed(path, redis_url) == "sent"
    with SpoolStore(path) as store, Registry(redis_url, provider="openai", timeout=5) as registry:
        assert store.contents() == []
        assert [call.given["id"] for call, _why in store.refused()] == (["t1"] if seen == "refused" else [])
        records = [registry.get("thread", id_) for id_ in IDS]
    assert all(record and record.subject == "user:1" for record in records[seen == "refused" :])


def flushed(path: Path, url: str) -> str:
    """Send what waits; return what became of it, in the document's words."""
    try:
        done = spool.of(path, "lapse", url).flush()
    except RegistryUnavailable:
        return "waits"
    assert done
    return "refused" if done.refused else "sent"
