"""plan -o and apply: exactly what was seen, or less."""

import gzip
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lapse.cli.inspect import planfile
from lapse.ledger.records import DueId
from lapse.registry.model import Partition
from support.commandline import CHAT, DAY, ENFORCED, HEAD, Desk

THREADS = Partition("openai", "thread", "chat")
CONFIRM = "--confirm=openai"


def planned(desk: Desk, name: str = "plan.json") -> dict[str, Any]:
    """Make a plan, and return it as one document."""
    desk.good("plan", "-o", name)
    written = (desk.directory / name).read_bytes()
    head, *lines, end = map(json.loads, (gzip.decompress(written) if name.endswith(".gz") else written).splitlines())
    parts: list[dict[str, Any]] = []
    for line in lines:
        if isinstance(line, dict):
            parts.append({**line, "ids": [], "along": []})
        elif isinstance(line[1], str):
            parts[-1]["along"].append(tuple(line))
        else:
            fields = zip(("id", "due", "by", "alone"), [*line, False], strict=False)
            parts[-1]["ids"].append(dict(fields))
    return {**head, "parts": parts, **end}


def as_document(plan: dict[str, Any]) -> str:
    """Return a plan as the first version wrote it."""
    said = {**plan, "lapse_plan": 1}
    del said["hash"]
    said["parts"] = [{name: value for name, value in part.items() if name != "along"} for part in plan["parts"]]
    hash_ = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]
    return json.dumps({"lapse_plan": 1, "hash": hash_, **said}, indent=1) + "\n"


def deletes(desk: Desk) -> list[str]:
    return [one["path"].rsplit("/", 1)[1] for one in desk.sandbox.requests() if one["method"] == "DELETE"]


def test_a_plan_names_each_id_and_what_it_rests_on(desk: Desk) -> None:
    due = desk.seed(3)
    desk.seed(2, days=1)
    plan = planned(desk)

    conversations, threads = plan["parts"]
    assert ("conversation", []) == (conversations["kind"], conversations["ids"])
    assert set(due) == {one["id"] for one in threads["ids"]}
    assert {"ttl"} == {one["by"] for one in threads["ids"]}
    assert all(one["due"] == int(one["due"]) < time.time() * 1000 for one in threads["ids"])
    assert ("openai", "lapse", 12, 16) == (
        plan["provider"],
        plan["namespace"],
        len(plan["hash"]),
        len(plan["place"]),
    )
    shown = desk.good("plan", "-o", "again.json")
    assert len(planned(desk)["hash"]) == len(shown.err.split()[1].rstrip(","))
    assert "lapse apply again.json" in shown.err
    assert [] == desk.sandbox.requests()


def test_a_plan_whose_name_says_so_is_packed_and_a_bar_shows_how_far_it_is(desk: Desk) -> None:
    due = desk.seed(3)
    plan = planned(desk, "plan.json.gz")
    assert set(due) == {one["id"] for one in plan["parts"][1]["ids"]}
    shown = desk.terminal("plan", "-o", "again.json")
    assert 0 == shown.code
    assert "planning" in shown.out
    desk.good("apply", "plan.json.gz", CONFIRM)
    assert set() == desk.sandbox.alive("thread")


def test_a_plan_of_the_version_before_is_applied(desk: Desk) -> None:
    due = desk.seed(3)
    (desk.directory / "plan.json").write_text(as_document(planned(desk)))
    desk.good("apply", "plan.json", CONFIRM)
    assert set(due) == set(deletes(desk))
    document = as_document(planned(desk))
    (desk.directory / "plan.json").write_text(document.replace('"made_at": ', '"made_at": 1'))
    assert "was changed after it was written" in desk.run("apply", "plan.json", CONFIRM).err


def test_what_is_no_id_is_no_plan(desk: Desk) -> None:
    desk.seed(1)
    planned(desk)
    file = desk.directory / "plan.json"
    text = "".join(file.read_text().splitlines(keepends=True)[:-1]).replace('"ttl"', '"whim"')
    file.write_text(text + json.dumps({"hash": hashlib.sha256(text.encode()).hexdigest()[:12]}) + "\n")
    shown = desk.run("apply", "plan.json", CONFIRM)
    assert 2 == shown.code
    assert "is no plan" in shown.err
    file.write_text(text.replace("whim", "ttl"))
    assert "was changed after it was written" in desk.run("apply", "plan.json", CONFIRM).err


async def test_what_is_more_than_one_run_is_sorted_in_files_and_stands_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planfile, "RUN", 4)
    ids = [DueId(n % 5 == 0, 1000 * (n % 3), f"thread_{n}", 7, "ttl") for n in range(20)]

    async def pages() -> AsyncIterator[list[DueId]]:
        for start in range(0, 20, 3):
            yield ids[start : start + 3]
        yield ids[:2]

    with ExitStack() as runs:
        found = list(await planfile._sorted(pages(), tmp_path, runs))
    assert [one.id for one in sorted(ids)] == [one.id for one in found]


def test_exactly_a_plan_is_deleted_though_its_policy_observes(desk: Desk) -> None:
    due = desk.seed(5)
    planned(desk)
    since = desk.seed(2)
    shown = desk.good("apply", "plan.json", CONFIRM)
    assert set(due) == set(deletes(desk))
    assert set(since) == desk.sandbox.alive("thread")
    assert "openai/thread/chat: completed: 5 deleted" in shown.lines
    intents = [one for one in desk.audit() if one["event"] == "intent"]
    assert {planned(desk)["hash"]} != {one["plan"] for one in intents}
    assert 5 == len(intents) == len([one for one in desk.audit() if one["event"] == "settled"])
    assert "base_at" not in desk.rules(THREADS)  # observing sets no baseline, whoever deletes


def test_without_a_confirmation_nothing_is_done(desk: Desk) -> None:
    desk.seed(2)
    planned(desk)
    for options in ((), ("--confirm=opnai",)):
        shown = desk.run("apply", "plan.json", *options)
        assert 8 == shown.code
        assert "delete up to 2 objects there" in shown.err
    assert 2 == len(desk.sandbox.alive("thread"))
    typed = desk.terminal("apply", "plan.json", typed="openai")
    assert 0 == typed.code
    assert set() == desk.sandbox.alive("thread")


def test_a_plan_only_shrinks(desk: Desk) -> None:
    held, touched, expired, forgotten, moved, used, settled, gone = desk.seed(8)
    desk.configure(
        CHAT.replace("created_at", "last_active_at")
        + 'touches = "none"\n[policies.other]\nkind = "thread"\nttl = "52w"\nanchor = "created_at"\n'
    )
    planned(desk)
    registry = desk.registry
    registry.hold("thread", held, reason="case")
    registry.touch("thread", touched)
    registry.expire("thread", expired)
    registry.forget("thread", forgotten)
    registry.register("thread", moved, "other")
    registry.register("conversation", "conv_1", "chat", uses=[("thread", used)])
    registry.forget("thread", settled)
    registry.register("thread", settled, "chat")

    shown = desk.good("apply", "plan.json", CONFIRM)

    assert [gone] == deletes(desk)
    left = {line.split()[2].rstrip(":"): line.partition(": ")[2] for line in shown.lines if "left out" in line}
    assert {
        held: "held",
        touched: "not due any more",
        expired: "touched, or given another expiry",
        forgotten: "forgotten",
        moved: "moved to other",
        used: "referenced",
        settled: "not due any more",
    } == left
    again = desk.good("apply", "plan.json", CONFIRM, "--json").records
    assert {"not tracked any more"} == {one["left_out"] for one in again if one.get("id") == gone}
    assert [gone] == deletes(desk)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("edited", "was changed after it was written"),
        ("not JSON", "cannot be read as a plan"),
        ("a list", "is no plan"),
        ("rules", "thread/chat was changed since"),
        ("policy", "is no policy any more"),
        ("account", "is another account by now"),
        ("namespace", "it is for the namespace lapse"),
        ("registry", "before it was emptied"),
    ],
)
def test_a_plan_that_rests_on_something_else_is_refused_as_a_whole(desk: Desk, what: str, why: str) -> None:
    desk.configure(CHAT.replace('["conversation", "thread"]', '"thread"'))
    desk.worker()
    due = desk.seed(2)
    planned(desk)
    file, environ = desk.directory / "plan.json", {}
    match what:
        case "edited":
            head, rest = file.read_text().split("\n", 1)
            file.write_text(f"{head}\n{rest.replace(due[0], 'thread_other')}")
        case "not JSON":
            file.write_text(file.read_text()[:-5])
        case "a list":
            file.write_text("[]")
        case "rules":
            desk.configure(CHAT.replace("7d", "8d"))
        case "policy":
            desk.configure('[policies.new]\nkind = "thread"\nttl = "7d"\nanchor = "created_at"\n')
        case "account":
            desk.configure(CHAT, head=HEAD + 'project = "proj_2"\n')
        case "namespace":
            environ = {"LAPSE_REGISTRY__NAMESPACE": "other"}
        case "registry":
            desk.raw.flushdb()
    shown = desk.run("apply", "plan.json", CONFIRM, **environ)
    assert 2 == shown.code
    assert why in shown.err
    assert "plan" in shown.err
    assert set(due) == desk.sandbox.alive("thread")


def test_a_halt_and_a_pause_hold(desk: Desk) -> None:
    desk.configure(ENFORCED.replace("created_at", "last_active_at"))
    desk.registry.register("thread", "thread_new", "chat")
    desk.seed(2)
    planned(desk)
    shown = desk.run("apply", "plan.json", CONFIRM)
    assert 6 == shown.code
    assert "no id of this policy was ever touched" in shown.out

    desk.configure(ENFORCED)
    planned(desk)
    desk.good("pause", "--reason", "the move")
    shown = desk.run("apply", "plan.json", CONFIRM)
    assert 6 == shown.code
    assert 2 == len(desk.sandbox.alive("thread"))


def test_a_pace_is_kept_and_the_rest_goes_later(desk: Desk) -> None:
    desk.configure(CHAT + 'max_deletions = { amount = 3, window = "1h" }\n')
    desk.seed(5)
    planned(desk)
    shown = desk.run("apply", "plan.json", CONFIRM)
    assert 7 == shown.code
    assert 2 == len(desk.sandbox.alive("thread"))
    desk.raw.hdel("lapse:{openai:thread}:chat:rules", "pace_from")
    shown = desk.run("apply", "plan.json", CONFIRM)
    assert 0 == shown.code
    assert set() == desk.sandbox.alive("thread")


def test_an_id_that_a_worker_ended_on_goes_last_and_alone(desk: Desk) -> None:
    ids = desk.seed(3)
    oldest = desk.sandbox.seed("thread", 1)[0]
    desk.registry.register("thread", oldest, "chat", created_at=time.time() - 99 * DAY)
    record = {"p": "chat", "s": "waiting", "f": 1_600_000_000_000, "x": 1, "d": 1_700_000_000_000, "u": 1}
    desk.raw.zrem("lapse:{openai:thread}:chat:fresh", oldest)
    desk.raw.hset("lapse:{openai:thread}:aside", oldest, json.dumps(record))
    desk.raw.zadd("lapse:{openai:thread}:chat:suspects", {oldest: record["d"]})  # type: ignore[dict-item]
    plan = planned(desk)
    assert [*sorted(ids), oldest] == [one["id"] for one in plan["parts"][1]["ids"]]
    desk.good("apply", "plan.json", CONFIRM)
    assert oldest == deletes(desk)[-1]
    assert set() == desk.sandbox.alive("thread")


def test_an_empty_plan_is_written_and_applied(desk: Desk) -> None:
    assert [[], []] == [part["ids"] for part in planned(desk)["parts"]]
    shown = desk.good("apply", "plan.json")
    assert "nothing was due" in shown.err


def test_several_providers_need_a_plan_each(desk: Desk) -> None:
    second = '[providers.second]\ntype = "openai"\nbase_url = "http://127.0.0.1:9/v1"\napi_key_env = "OPENAI_API_KEY"\n'
    other = '[policies.other]\nprovider = "second"\nkind = "thread"\nttl = "7d"\nanchor = "created_at"\n'
    desk.configure(second + CHAT + 'provider = "openai"\n' + other)
    shown = desk.run("plan", "-o", "plan.json")
    assert 2 == shown.code
    assert "--provider" in shown.err
    assert not (desk.directory / "plan.json").exists()
    desk.good("plan", "-o", "plan.json", "--provider", "second")


def test_a_place_that_cannot_be_written_is_said(desk: Desk) -> None:
    shown = desk.run("plan", "-o", "nowhere/plan.json")
    assert 2 == shown.code
    assert "nowhere/plan.json cannot be written" in shown.err


ALONG = 'cascade = { response = "delete" }\n'
STORES = """
[policies.uploads]
kind = "file"
ttl = "300d"
anchor = "created_at"
mode = "enforce"
[policies.stores]
kind = "vector_store"
ttl = "30d"
anchor = "created_at"
cascade = {{ file = "delete" }}
mode = "{mode}"
"""


def stores_with_files(desk: Desk, *, days: float) -> tuple[list[str], list[str]]:
    """Return two due stores and the file in each, which is so many days old."""
    files = desk.seed(2, kind="file", policy="uploads", days=days)
    stores = []
    for file in files:
        stores += desk.sandbox.seed("vector_store", 1, file_ids=[file])
        at = time.time() - 40 * DAY
        desk.registry.register("vector_store", stores[-1], "stores", created_at=at, uses=[("file", file)])
    return stores, files


@pytest.mark.parametrize("mode", ["observe", "enforce"])
@pytest.mark.parametrize("days", [40, 400])
def test_what_a_plan_does_not_name_does_not_go_along(desk: Desk, mode: str, days: int) -> None:
    desk.configure(STORES.format(mode=mode))
    stores, files = stores_with_files(desk, days=days)
    planned(desk)
    without_children(desk.directory / "plan.json")

    shown = desk.good("apply", "plan.json", CONFIRM)

    assert set(stores) == set(deletes(desk))
    assert set(files) == desk.sandbox.alive("file")
    for store, id_ in zip(stores, files, strict=True):
        why = f"the plan does not say that it goes along: a file of vector_store {store}"
        assert f"  left out {id_}: {why}" in shown.lines
        assert "used" not in desk.good("explain", "file", id_).out.replace("never used since", "")
    planned(desk, "next.json")
    desk.good("apply", "next.json", CONFIRM)
    assert (set() if days == 400 else set(files)) == desk.sandbox.alive("file")


def test_what_does_not_go_along_is_left_out_as_json_too(desk: Desk) -> None:
    desk.configure(STORES.format(mode="enforce"))
    _stores, files = stores_with_files(desk, days=40)
    planned(desk)
    without_children(desk.directory / "plan.json")
    left = [one for one in desk.good("apply", "plan.json", CONFIRM, "--json").records if "left_out" in one]
    assert set(files) == {one["id"] for one in left}


def test_a_conversation_stays_with_a_response_that_the_plan_does_not_name(desk: Desk) -> None:
    answers = '[policies.answers]\nkind = "response"\nttl = "300d"\nanchor = "created_at"\nmode = "enforce"\n'
    policies = CHAT.replace('["conversation", "thread"]', '"conversation"') + ALONG
    desk.configure(policies + answers)
    [talk] = desk.seed(1, kind="conversation")
    planned(desk)
    [answer] = desk.seed(1, kind="response", policy="answers", uses=[("conversation", talk)])

    shown = desk.good("apply", "plan.json", CONFIRM)

    assert [] == deletes(desk)
    assert "openai/conversation/chat: completed: 1 conflict" in shown.lines
    why = f"the plan does not say that it goes along: a response that uses conversation {talk}, so both stay"
    assert f"  left out {answer}: {why}" in shown.lines
    assert f"its response {answer} is not in the plan" in [one.get("detail") for one in desk.audit("conversation")]
    desk.configure(policies + 'mode = "enforce"\n' + answers)
    desk.worker()
    assert [answer, talk] == deletes(desk)


def test_a_plan_names_what_may_go_along_and_apply_takes_that(desk: Desk) -> None:
    desk.configure(STORES.format(mode="observe"))
    stores, files = stores_with_files(desk, days=40)
    [shared, held] = desk.seed(2, kind="file", policy="uploads", days=40)
    desk.registry.hold("file", held, reason="case")
    [late] = desk.sandbox.seed("vector_store", 1, file_ids=[shared, held])
    uses = [("file", shared), ("file", held)]
    desk.registry.register("vector_store", late, "stores", created_at=time.time() - 40 * DAY, uses=uses)
    desk.registry.register("thread", "thread_1", "other", uses=[("file", shared)])
    shown = desk.good("plan")
    assert "  their files that are ours and that nothing else uses go along" in shown.lines
    _uploads, part = planned(desk)["parts"]
    assert {*stores, late} == {one["id"] for one in part["ids"]}
    along = {id_: (kind, parent) for id_, kind, parent in part["along"]}
    assert {*files, shared, held} == along.keys()
    assert len(along) == len(part["along"])
    assert [("file", stores[0]), ("file", stores[1])] == [along[file] for file in files]

    shown = desk.run("apply", "plan.json")
    assert "delete up to 7 objects there" in shown.err
    assert "4 ids may go along with these" in shown.err
    desk.good("apply", "plan.json", CONFIRM)
    assert {shared, held} == desk.sandbox.alive("file")
    assert set() == desk.sandbox.alive("vector_store")


def test_a_plan_names_what_is_below_what_goes_along_too(desk: Desk) -> None:
    [file] = desk.seed(1, kind="file", policy="uploads", days=1)
    [store] = desk.sandbox.seed("vector_store", 1, file_ids=[file])
    desk.registry.register("vector_store", store, "stores", uses=[("file", file)])
    search = {"file_search": {"vector_store_ids": [store]}}
    at = time.time() - 40 * DAY
    [thread] = desk.sandbox.seed("thread", 1, tool_resources=search)
    desk.registry.register("thread", thread, "chat", created_at=at, uses=[("vector_store", store)])
    both = 'cascade = { file = "delete", vector_store = "delete" }\n'
    policies = CHAT.replace('["conversation", "thread"]', '"thread"') + both
    desk.configure(policies + STORES.format(mode="enforce"))
    desk.worker(sweeps=0)
    plan = planned(desk)
    [along] = [part["along"] for part in plan["parts"] if part["kind"] == "thread"]
    assert {(store, "vector_store", thread), (file, "file", store)} == set(along)
    desk.good("apply", "plan.json", CONFIRM)
    assert [file, store, thread] == [id_ for i, id_ in enumerate(deletes(desk)) if id_ not in deletes(desk)[:i]]


def test_what_goes_along_and_is_no_id_is_no_plan(desk: Desk) -> None:
    desk.configure(STORES.format(mode="enforce"))
    _stores, [first, _second] = stores_with_files(desk, days=40)
    planned(desk)
    file = desk.directory / "plan.json"
    text = "".join(file.read_text().splitlines(keepends=True)[:-1]).replace(f'"{first}"', '"a b"')
    file.write_text(text + json.dumps({"hash": hashlib.sha256(text.encode()).hexdigest()[:12]}) + "\n")
    shown = desk.run("apply", "plan.json", CONFIRM)
    assert 2 == shown.code
    assert "is no plan" in shown.err
    assert [] == deletes(desk)


def without_children(file: Path) -> None:
    """Take from a plan what goes along, as a version that knew of none wrote it."""
    lines = file.read_bytes().splitlines(keepends=True)[:-1]
    kept = [line for line in lines if not (line.startswith(b"[") and isinstance(json.loads(line)[1], str))]
    text = b"".join(kept).replace(b'{"lapse_plan":3', b'{"lapse_plan":2')
    end = json.dumps({"hash": hashlib.sha256(text).hexdigest()[:12]}).encode()
    file.write_bytes(text + end + b"\n")
