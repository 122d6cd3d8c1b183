"""What applications wrote where no worker looks: status shows it, and a worker moves what it understands."""

import json

import pytest

from support.commandline import Desk

STORED = '{"reason":"case 7","actor":"a@b","since":1}'


@pytest.mark.parametrize("worked", [False, True], ids=["no worker yet", "a worker"])
def test_a_provider_that_no_worker_knows_is_shown(desk: Desk, *, worked: bool) -> None:
    desk.registry.register("thread", "thread_1", "chat", provider="opnai")
    desk.registry.hold("conversation", "conv_1", reason="case 7", provider="opnai")
    if worked:
        desk.worker()

    shown = desk.good("status").lines

    assert any(line.startswith("opnai/thread/chat state=(unmanaged) registered=1") for line in shown)
    assert "opnai/conversation: 1 held; the file has no provider opnai." in shown


def test_a_hold_under_a_plural_is_moved_by_a_worker(desk: Desk) -> None:
    (id_,) = desk.seed(1)
    desk.raw.hset("lapse:{openai:threads}:holds", id_, STORED)

    desk.worker()

    assert desk.raw.hget("lapse:{openai:thread}:holds", id_) == json.dumps(json.loads(STORED), separators=(",", ":"))
    assert desk.good("explain", "thread", id_).out.startswith(f"{id_} will not be deleted while it is held.")
    assert desk.raw.keys("lapse:{openai:threads}:holds") == []


def test_text_that_is_no_utf_8_is_refused_in_a_sentence(desk: Desk) -> None:
    refused = desk.run("hold", "thread", "thread_1", "--reason", "Verl\udce4ngert")

    assert refused.code == 2
    assert "is half of one, no UTF-8" in refused.err
    assert "Traceback" not in refused.err
