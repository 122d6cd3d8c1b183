"""erase: everything of a person goes, by a request that is said once, followed, and proven."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lapse import InvalidResource, RegistryRefused
from lapse.cli.erasure import follow
from lapse.cli.main import run
from support.commandline import CHAT, DAY, ENFORCED, HEAD, Desk

S = "user:42"
ID = "7b1c9f0e-52a1-4c57-9d0e-0f6d9a3f4a11"
OTHER = "0f6d9a3f-9d0e-4c57-52a1-7b1c9f0e4a11"
ASK = ("erase", "--subject", S, "--request-id", ID)


def deletes(desk: Desk) -> set[str]:
    return {one["path"].rsplit("/", 1)[1] for one in desk.sandbox.requests() if one["method"] == "DELETE"}


@contextmanager
def working(desk: Desk) -> Iterator[None]:
    """Let a worker come again and again meanwhile."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.2):
            desk.erases()

    desk.raw.hset("lapse:published", "beat", round(time.time() * 1000))
    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        over.set()
        worker.join()


def test_a_plan_says_what_would_go_and_does_nothing(desk: Desk) -> None:
    mine = desk.seed(2, subject=S) + desk.seed(1, kind="conversation", subject=S)
    desk.worker(sweeps=0)
    shown = desk.good(*ASK, "--plan", "-o", "plan.json")
    for said in ("3 objects of user:42:", "openai: 2 threads to erase", "openai: 1 conversation to erase"):
        assert said in shown.err
    plan = json.loads((desk.directory / "plan.json").read_text())
    assert set(mine) == {one["id"] for one in plan["ids"]}
    assert "nobody asked" in desk.terminal("erase", "list").out
    assert set() == deletes(desk)


def test_a_plan_says_what_goes_along_though_it_is_nobody_s(desk: Desk) -> None:
    files = desk.seed(2, kind="file", policy="uploads")
    [store] = desk.sandbox.seed("vector_store", 1, file_ids=files)
    desk.registry.register("vector_store", store, "stores", subject=S, uses=[("file", one) for one in files])
    [talk] = desk.seed(1, kind="conversation", subject=S)
    [mine] = desk.seed(1, kind="response", policy="answers", subject=S, uses=[("conversation", talk)])
    [answer] = desk.seed(1, kind="response", policy="answers", uses=[("conversation", talk)])
    desk.worker(sweeps=0)

    shown = desk.good(*ASK, "--plan", "-o", "plan.json")
    assert "3 objects of user:42:" in shown.err
    for said in ("openai: 2 files may go along, where nothing", "openai: 1 response may go along, where nothing"):
        assert said in shown.err
    described = desk.good(*ASK, "--plan", "--json").json
    assert json.loads((desk.directory / "plan.json").read_text())["along"] == described["along"]
    along = {one["id"]: (one["kind"], one["with"]) for one in described["along"]}
    assert {files[0]: ("file", store), files[1]: ("file", store), answer: ("response", talk)} == along
    with working(desk):
        done = desk.good(*ASK, "--confirm=openai")
    assert "2 files may go along" in done.err
    assert deletes(desk) == {store, talk, mine, answer, *files}


@pytest.mark.parametrize("why", ["held", "somebody else's"])
def test_a_plan_says_that_a_conversation_stays_with_a_response_that_does(desk: Desk, why: str) -> None:
    [talk] = desk.seed(1, kind="conversation", subject=S)
    whose = ["user:7"] if why != "held" else []
    [answer] = desk.seed(1, kind="response", policy="answers", uses=[("conversation", talk)], subject=whose or None)
    if why == "held":
        desk.registry.hold("response", answer, reason="case")
    desk.worker(sweeps=0)
    shown = desk.good(*ASK, "--plan", "--json").json
    assert ([], ["in_use"]) == (shown["along"], [one["fate"] for one in shown["ids"]])
    assert f"used by response {answer}" in shown["ids"][0]["detail"]
    desk.run(*ASK, "--confirm=openai", "--no-wait")
    desk.erases()
    assert set() == deletes(desk)


def test_it_wants_the_name_of_each_provider_it_touches(desk: Desk) -> None:
    head = HEAD + '[providers.other]\ntype = "openai"\nbase_url = "{base_url}"\napi_key_env = "OTHER_KEY"\n'
    desk.environ["OTHER_KEY"] = "sk-other-0123456789abcdefghij"
    desk.configure(CHAT + 'provider = "openai"\n', head=head)
    desk.seed(1, subject=S)
    desk.registry.register("thread", "thread_x", "chat", subject=S, provider="other")
    desk.worker(sweeps=0)
    shown = desk.run(*ASK, "--confirm=openai")
    assert (8, "") == (shown.code, shown.out)
    assert "not confirmed for other: nothing was done; give --confirm=openai --confirm=other" in shown.err
    assert "no such provider" in desk.run(*ASK, "--confirm=opanai").err
    desk.configure(CHAT)  # of the operator alone: workers know both
    assert "not confirmed for other: nothing" in desk.run(*ASK, "--confirm=openai").err
    assert set() == deletes(desk)


def test_workers_erase_and_the_command_follows(desk: Desk) -> None:
    mine = desk.seed(5, subject=S)
    (held,) = desk.seed(1, subject=S)
    (other,) = desk.seed(1, kind="conversation", subject=S)
    desk.registry.register("thread", held, "chat", uses=[("conversation", other)])
    desk.registry.hold("thread", held, reason="case 7")
    desk.worker(sweeps=0)
    said = (*ASK, "--confirm=openai", "--reason", "Art. 17")
    with working(desk):
        shown = desk.run(*said)
    assert 5 == shown.code
    assert "5 erased, 1 held, 1 in_use" in shown.out
    assert f"openai conversation {other}: in_use: used by thread {held}, which stays: held" in shown.out
    assert "will not be deleted while it is held" in desk.good("explain", "thread", held).out
    assert f"openai thread {held}: held: case 7" in shown.out
    assert set(mine) == deletes(desk)
    desk.registry.unhold("thread", held)
    desk.erases()
    assert {*mine, held, other} == deletes(desk)
    again = desk.good(*ASK)
    assert "everything found is gone; open for late registrations until " in again.out
    listed = desk.good("erase", "list", "--json").records
    assert [(ID, S, "open", "Art. 17")] == [
        (one["request_id"], one["subject"], one["state"], one["reason"]) for one in listed
    ]


def test_what_no_worker_moves_is_left_to_them(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.seed(1, subject=S)
    desk.worker(sweeps=0)
    desk.raw.hset("lapse:published", "beat", round(time.time() * 1000))
    monkeypatch.setattr(follow, "PATIENCE", 1.0)
    monkeypatch.chdir(desk.directory)
    for name, value in desk.environ.items():
        monkeypatch.setenv(name, value)
    assert 5 == run([*ASK, "--confirm=openai"])
    assert "nothing moved for a while: it is left to the workers" in capsys.readouterr().err


def test_a_halt_or_pause_ends_with_6_and_says_so(desk: Desk) -> None:
    (mine,) = desk.seed(1, subject=S)
    desk.worker(sweeps=0)
    desk.good("pause", "openai/thread/chat")
    assert 6 == desk.run(*ASK, "--confirm=openai", "--no-wait").code
    desk.erases()
    shown = desk.run("erase", "status", ID)
    assert 6 == shown.code
    assert "pending: paused: lapse resume openai/thread/chat" in shown.out
    said = f"{mine} is to be erased, whatever its policy says: lapse erase status {ID} follows it."
    assert said in desk.good("explain", "thread", mine).out
    assert set() == deletes(desk)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--subject", "", "--request-id", ID], "subject"),
        (["--subject", "  ", "--request-id", ID], "subject"),
        (["--subject", "user:*", "--request-id", ID], "no wildcard"),
        (["--subject", "x" * 513, "--request-id", ID], "512"),
        (["--subject", S, "--request-id", "42"], "give a UUID"),
        (["--subject", S], "--request-id UUID"),
        (["--request-id", ID], "--subject NAME"),
        (["--subject", S, "--request-id", ID, "--received", "2100-01-01"], "future"),
        (["--subject", S, "--request-id", ID, "--received", "2026-01-02", "--due", "2026-01-01"], "before"),
        (["--subject", S, "--request-id", ID, "-o", "x"], "--plan"),
        (["status", OTHER], "there is no request"),
    ],
)
def test_what_is_no_request_is_refused_and_named(desk: Desk, arguments: list[str], said: str) -> None:
    shown = desk.run("erase", *arguments)
    assert 2 == shown.code, shown
    assert said in shown.err
    assert not desk.raw.exists("lapse:erasures")


def test_a_request_id_belongs_to_one_subject(desk: Desk) -> None:
    desk.worker(sweeps=0)
    desk.good(*ASK)
    shown = desk.run("erase", "--subject", "user:7", "--request-id", ID.upper())
    assert 2 == shown.code
    assert f"request id {ID} belongs to another subject" in shown.err


def test_under_an_unknown_subject_nothing_is_registered(desk: Desk) -> None:
    desk.worker(sweeps=0)
    shown = desk.good(*ASK)
    assert f"nothing is registered under {S}" in shown.err
    assert "nothing is registered under it" in shown.out
    assert "everything found is gone" not in shown.out


def test_a_provider_that_was_removed_from_the_file_keeps_its_ids_visible(desk: Desk) -> None:
    desk.seed(1, subject=S)
    desk.registry.register("thread", "thread_far", "chat", subject=S, provider="removed")
    desk.worker(sweeps=0)
    desk.run(*ASK, "--confirm=openai", "--no-wait")
    desk.erases()
    shown = desk.run("erase", "status", ID)
    assert 5 == shown.code
    assert "removed thread thread_far: unprovable: provider not configured" in shown.out
    assert "1 erased, 1 unprovable" in shown.out
    assert "it cannot be complete: provider not configured: removed" in shown.err


def test_an_application_may_ask_where_the_policy_file_says_so(desk: Desk) -> None:
    mine = desk.seed(2, subject=S)
    desk.worker(sweeps=0)
    with pytest.raises(RegistryRefused, match="by_application = true"):
        desk.registry.erase(S, ID)
    desk.configure(ENFORCED + '[erasure]\nby_application = true\nrate = { amount = 1, window = "1h" }\n')
    desk.worker(sweeps=0)
    with pytest.raises(InvalidResource, match="UUID"):
        desk.registry.erase(S, "42")
    assert "asked" == desk.registry.erase(S, ID, reason="Art. 17")
    assert "asked" == desk.registry.erase("user:7", OTHER)
    with pytest.raises(InvalidResource, match="another subject"):
        desk.registry.erase("user:9", OTHER)
    desk.erases()
    assert ("open", "asked") == (desk.registry.erase(S, ID), desk.registry.erase("user:7", OTHER))
    assert set(mine) == deletes(desk)
    desk.configure(ENFORCED)
    desk.erases()
    assert "refused" == desk.registry.erase("user:7", OTHER)
    listed: Any = {one["request_id"]: one for one in desk.good("erase", "list", "--json").records}
    assert (True, "refused") == (listed[OTHER]["by_application"], listed[OTHER]["state"])


@pytest.mark.parametrize("as_json", [True, False])
def test_after_a_restore_the_audit_says_again_what_was_erased(desk: Desk, *, as_json: bool) -> None:
    desk.seed(1, subject="user:9", days=21)
    mine = desk.seed(2, subject=S, days=20)
    desk.worker(sweeps=0)
    desk.good("export", "-o", "backup")
    desk.run(*ASK, "--confirm=openai", "--no-wait")
    desk.erases()
    assert set(mine) == deletes(desk)
    desk.worker(sweeps=0)
    desk.raw.flushall()
    desk.good("import", "backup")
    desk.worker(sweeps=0)
    assert [] == desk.good("erase", "list", "--json").records
    packed = desk.directory / "audit.jsonl.1.gz"
    packed.write_bytes(gzip.compress((desk.directory / "audit.jsonl").read_bytes()))
    wants = desk.run("erase", "replay", "--audit", packed.name)
    assert 8 == wants.code, wants
    shown = desk.good("erase", "replay", "--audit", packed.name, "--confirm=openai", *["--json"] * as_json)
    if as_json:
        assert {"requests": 1, "again": [ID], "providers": ["openai"], "nameless": 0} == shown.json
    else:
        assert "1 request in the audit, 1 said again at openai\n" == shown.out
    (listed,) = desk.good("erase", "list", "--json").records
    assert (ID, S) == (listed["request_id"], listed["subject"])
    desk.erases()
    assert dict.fromkeys(mine, "already_gone") == {
        one["id"]: one["fate"] for one in desk.good("erase", "status", ID, "--json").json["ids"]
    }


def test_replay_takes_no_file_that_was_written_into(desk: Desk) -> None:
    desk.seed(1, subject=S)
    desk.worker(sweeps=0)
    line = {"event": "erase_subject", "provider": "openai", "kind": "thread", "id": "", "policy": "", "at": 1}
    line |= {"subject": S, "requests": [{"id": ID, "at": 1, "until": round((time.time() + DAY) * 1000)}]}
    (desk.directory / "forged.jsonl").write_text(json.dumps(line) + "\n")
    shown = desk.run("erase", "replay", "--audit", "forged.jsonl", "--confirm=openai")
    assert 5 == shown.code, shown
    assert "no file has a line of any chain" in shown.err
    assert not desk.raw.exists("lapse:erasures")


def test_an_id_is_moved_to_another_subject_which_no_registration_does(desk: Desk) -> None:
    (mine,) = desk.seed(1, subject="user:7")
    desk.registry.hold_subject(S, reason="case 7")
    said = ("subject", "move", "thread", mine, "--reason", "ticket 7")
    assert f"it is {S}'s now\n" == desk.good(*said, "--to", S).out
    record = desk.registry.get("thread", mine)
    assert record
    assert (S, "held") == (record.subject, record.state)
    assert f"it is {S}'s already\n" == desk.good(*said, "--to", S).out
    desk.good(*said, "--to", "user:8", "--to", "user:9")
    record = desk.registry.get("thread", mine)
    assert record
    assert (("user:8", "user:9"), "tracked") == (record.subjects, record.state)
    assert [] == list(desk.registry.resources(subject="user:7").records)
    assert 2 == len([one for one in desk.audit() if one["event"] == "subject_moved"])
    shown = desk.run("subject", "move", "thread", "thread_none", "--to", S, "--reason", "x")
    assert (2, True) == (shown.code, "is not tracked" in shown.err)
