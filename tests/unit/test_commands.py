"""What each call sends and how its reply reads, before anything is sent."""

import getpass
import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from lapse.errors import ConfigError, InvalidResource
from lapse.registry import notices
from lapse.registry.commands import Commands, Operation, actor, names
from lapse.registry.model import Answer, Bulk, Partition, Registered, Resource, SubjectAnswer

CREATED = 1_772_366_400
AHEAD = 4_102_444_800
THREAD = Resource("openai", "thread", "thread_1")


@pytest.fixture
def commands() -> Commands:
    return Commands("lapse", "openai")


def sent(operation: Operation[Any]) -> list[tuple[Any, ...]]:
    """Return the name, key and arguments of each call."""
    return [(call.script.name, call.key, *call.args) for call in operation.calls]


def register(commands: Commands, **given: Any) -> Operation[Registered]:
    return commands.register(commands.registration("thread", "thread_1", "chat", **given))


@pytest.mark.parametrize("namespace", ["", "a:b", "{a}", None])
def test_a_namespace_is_a_name(namespace: Any) -> None:
    with pytest.raises(InvalidResource, match="namespace"):
        Commands(namespace, "openai")


def test_the_provider_of_a_call_goes_before_the_constructor_s_before_the_environment_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LAPSE_PROVIDER", "from-env")

    assert "given" == Commands("lapse", "openai").provider("given")
    assert "openai" == Commands("lapse", "openai").provider(None)
    assert "from-env" == Commands("lapse", None).provider(None)


def test_a_call_without_a_provider_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"which provider\? .* set LAPSE_PROVIDER"):
        Commands("lapse", None).resource("thread", "thread_1", None)


def test_a_plain_registration_sends_the_id_and_its_policy(commands: Commands) -> None:
    assert [("register", "lapse:{openai:thread}:", "openai", "thread", "thread_1", "chat", "")] == sent(
        register(commands)
    )


def test_a_registration_sends_its_facts_in_milliseconds(commands: Commands) -> None:
    times = {"expires_in": "1h", "created_at": CREATED, "last_active_at": CREATED + 1}

    (call,) = sent(register(commands, subject="user:1", labels={"a": "b"}, **times))

    assert {
        "subject": "user:1",
        "labels": {"a": "b"},
        "within": 3_600_000,
        "created": CREATED * 1000,
        "active": (CREATED + 1) * 1000,
    } == json.loads(call[-1])


def test_what_is_not_given_is_not_sent(commands: Commands) -> None:
    nothing = {"uses": None, "subject": None, "labels": None, "expires_at": None, "created_at": None}

    assert "" == sent(register(commands, **nothing))[0][-1]


def test_edges_go_before_and_after_the_registration_in_one_round_trip(commands: Commands) -> None:
    """A target is never unprotected: its slot hears of the edge first, and after whoever removes an earlier one."""
    uses = [("assistant", "asst_1"), ("assistant", "asst_2"), ("azure", "file", "file_1")]
    refers = [
        ("refer", "lapse:{openai:assistant}:", "openai", "assistant", "openai|thread|thread_1", "asst_1", "asst_2"),
        ("refer", "lapse:{azure:file}:", "azure", "file", "openai|thread|thread_1", "file_1"),
    ]

    assert [
        *refers,
        (
            "register",
            "lapse:{openai:thread}:",
            "openai",
            "thread",
            "thread_1",
            "chat",
            '{"uses":["openai|assistant|asst_1","openai|assistant|asst_2","azure|file|file_1"]}',
        ),
        *refers,
    ] == sent(register(commands, uses=uses))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"ttl": "7d"}, "register takes no 'ttl': it takes provider, uses, created_at"),
        ({"expires_in": "1h", "expires_at": CREATED}, "give one of them"),
        ({"created_at": CREATED, "last_active_at": CREATED - 1}, "lies before created_at"),
        ({"subject": ""}, "subject '': give text of 1 to 512 characters"),
        ({"subject": "x" * 513}, "give text of 1 to 512 characters"),
        ({"subject": 7}, "subject 7: give a name"),
        ({"subject": [" "]}, "subject ' ' is blank"),
        ({"labels": {str(n): "x" for n in range(17)}}, "labels: give at most 16 pairs"),
        ({"labels": ["a"]}, "labels: give at most 16 pairs"),
        ({"labels": {"": "x"}}, "labels key '': give text"),
        ({"labels": {"a": None}}, "labels value 'None': give text"),
        ({"expires_in": 0}, "expires_in 0: give seconds above zero"),
    ],
)
def test_a_registration_that_cannot_be_stored(commands: Commands, given: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidResource, match=why):
        commands.registration("thread", "thread_1", "chat", **given)


def test_a_backfilled_activity_without_a_creation_is_stored(commands: Commands) -> None:
    assert {"active": CREATED * 1000} == commands.registration("thread", "t", "chat", last_active_at=CREATED).facts


def test_the_reply_to_a_registration(commands: Commands) -> None:
    operation = register(commands, uses=[("assistant", "asst_1")])

    assert Registered(datetime.fromtimestamp(CREATED, UTC), "ttl", new=True, managed=True) == operation.finish(
        [1, b"%d ttl 1 1" % (CREATED * 1000), 1]
    )
    assert Registered(None, "unmanaged", new=False, managed=False) == operation.finish([1, "-1 unmanaged 0 0", 1])


def test_what_a_lost_registration_leaves_is_enough_to_register_it_again(commands: Commands) -> None:
    given: dict[str, Any] = {
        "uses": [("assistant", "asst_1")],
        "subject": "user:1",
        "labels": {"a": "b"},
        "expires_in": "1h",
        "created_at": CREATED,
        "last_active_at": CREATED + 1,
    }
    operation = register(commands, **given)
    replayed = json.loads(json.dumps(operation.describe()[0]))

    assert commands.registration("thread", "thread_1", "chat", **given) == commands.registration(**replayed)


def test_an_expiry_at_a_time_can_be_replayed(commands: Commands) -> None:
    operation = register(commands, expires_at=CREATED)

    assert {
        "provider": "openai",
        "kind": "thread",
        "id": "thread_1",
        "policy": "chat",
        "expires_at": CREATED,
    } == operation.describe()[0]


def test_many_registrations_are_one_call_for_each_slot(commands: Commands) -> None:
    one = commands.registration("thread", "thread_1", "chat")
    two = commands.registration("conversation", "conv_1", "chat", uses=[("assistant", "asst_1")])
    three = commands.registration("thread", "thread_2", "bulk")

    operation = commands.register_many(iter([one, two, three]))

    assert [
        ("refer", "lapse:{openai:assistant}:", "openai", "assistant", "openai|conversation|conv_1", "asst_1"),
        ("register", "lapse:{openai:thread}:", "openai", "thread", "thread_1", "chat", "", "thread_2", "bulk", ""),
        (
            "register",
            "lapse:{openai:conversation}:",
            "openai",
            "conversation",
            "conv_1",
            "chat",
            '{"uses":["openai|assistant|asst_1"]}',
        ),
        ("refer", "lapse:{openai:assistant}:", "openai", "assistant", "openai|conversation|conv_1", "asst_1"),
    ] == sent(operation)
    replies = [1, [2, 1, 1, 1], b"5 ttl 1 1", 1]
    assert Bulk(registered=3, new=2, unmanaged=1, subject_kept=1) == operation.finish(replies)
    told: list[dict[str, Any]] = operation.describe()
    replayed = [commands.registration(**lost) for lost in told]
    assert [one, two, three] == replayed


def test_bulks_add_up() -> None:
    assert Bulk(4, 3, 2) == sum([Bulk(1, 1, 1), Bulk(3, 2, 1)], Bulk())


SLOT = ("lapse:{openai:thread}:", "openai", "thread", "thread_1")


@pytest.mark.parametrize(
    ("name", "extra", "expected"),
    [
        ("touch", (), ("touch", *SLOT)),
        ("expire", (None,), ("expire", *SLOT, "")),
        ("expire", (CREATED,), ("expire", *SLOT, CREATED * 1000)),
        ("unhold", ("ann",), ("unhold", *SLOT, '"ann"')),
        ("forget", (), ("forget", *SLOT)),
    ],
)
def test_the_other_calls(commands: Commands, name: str, extra: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    operation = getattr(commands, name)(THREAD, *extra)
    reply = [b"ok", 0] if name == "forget" else b"ok"

    assert [expected] == sent(operation)
    assert Answer.OK is operation.finish([operation.calls[0].parse(reply)])
    (told,) = operation.describe()
    assert {"call": name, "provider": "openai", "kind": "thread", "id": "thread_1"}.items() <= told.items()
    assert (CREATED if expected[-1] == CREATED * 1000 else None) == told.get("at")


def test_forget_may_let_go_of_what_the_id_uses(commands: Commands) -> None:
    operation = commands.forget(THREAD, release=True)

    assert [("forget", *SLOT, "release")] == sent(operation)
    assert [{"call": "forget", "provider": "openai", "kind": "thread", "id": "thread_1", "release": True}] == (
        operation.describe()
    )


def test_nothing_uses_itself(commands: Commands, caplog: pytest.LogCaptureFixture) -> None:
    """The use is refused; the registration is not, or the id would be lost."""
    one = commands.registration("thread", "thread_1", "chat", uses=[("assistant", "a"), ("thread", "thread_1")])

    assert (("assistant", "a"),) == tuple((use.kind, use.id) for use in one.uses)
    assert ["openai|assistant|a"] == one.facts["uses"]
    assert "thread thread_1 names itself in uses" in caplog.text
    caplog.clear()
    assert commands.registration("thread", "thread_1", "chat", uses=[("assistant", "thread_1")]).uses
    assert "" == caplog.text


@pytest.mark.parametrize(("until", "end"), [(None, ""), (AHEAD, AHEAD * 1000)])
def test_a_hold_says_why_by_whom_and_until_when(commands: Commands, until: float | None, end: str | int) -> None:
    ((*head, stored, sent_end),) = sent(commands.hold(THREAD, "case 1", None, until))
    hold = json.loads(stored)

    assert ["hold", *SLOT] == head
    assert end == sent_end
    assert ("case 1", actor(), end or None) == (hold["reason"], hold["actor"], hold.get("until"))
    assert hold["since"] > CREATED * 1000


@pytest.mark.parametrize("reason", ["", " ", None])
def test_a_hold_needs_a_reason(commands: Commands, reason: Any) -> None:
    with pytest.raises(InvalidResource, match=r"hold of thread_1: say why \(reason=\)"):
        commands.hold(THREAD, reason, "ann", None)


def test_a_hold_ends_ahead(commands: Commands) -> None:
    with pytest.raises(InvalidResource, match=r"hold of thread_1: until 2026-\S+ is over already: give a time ahead"):
        commands.hold(THREAD, "case 1", "ann", CREATED)


def test_unhold_is_signed(commands: Commands) -> None:
    assert json.dumps(actor()) == sent(commands.unhold(THREAD, None))[0][-1]


def test_get_reads_one_record(commands: Commands) -> None:
    operation = commands.get(THREAD)
    text = json.dumps({"by": "ttl", "record": {"p": "chat", "s": "tracked", "f": CREATED * 1000}})

    record = operation.finish([operation.calls[0].parse(text.encode())])

    assert record is not None
    assert ("chat", "tracked", CREATED) == (record.policy, record.state, record.created_at.timestamp())  # type: ignore[union-attr]


@pytest.fixture
def forgotten_actor() -> Iterator[None]:
    actor.cache_clear()
    yield
    actor.cache_clear()


@pytest.mark.usefixtures("forgotten_actor")
def test_who_acts_is_a_user_on_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")

    assert f"ann@{socket.gethostname()}" == actor()


@pytest.mark.parametrize("error", [KeyError("no such uid"), OSError("no username")])
@pytest.mark.usefixtures("forgotten_actor")
def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Containers run under numbers that no passwd file knows."""

    def nobody() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", nobody)

    assert actor().split("@")[0].isdigit()


@pytest.mark.parametrize(
    ("published", "known"), [(None, []), (b'["openai/thread/chat"]', ["openai/thread/chat"]), ("[]", [])]
)
def test_names_that_workers_published(published: object, known: list[str]) -> None:
    assert known == names(published)


def test_an_expiry_may_be_said_of_a_subjects_id_alone(commands: Commands) -> None:
    call = commands.expire_of("user:1", THREAD, None)

    assert ("expire", ("openai", "thread", "thread_1", "", "", "user:1")) == (call.script.name, call.args)


def test_an_answer_about_a_subject_is_true_if_every_slot_took_it() -> None:
    assert (True, False) == (bool(SubjectAnswer(changed=1)), bool(SubjectAnswer(failed=("openai/thread: why",))))


def test_a_registration_may_be_of_several_subjects(commands: Commands) -> None:
    (call,) = sent(register(commands, subject={"user:2", "user:1"}))

    assert {"subject": ["user:1", "user:2"]} == json.loads(call[-1])


@pytest.mark.parametrize("answer", Answer)
def test_only_ok_is_true(answer: Answer) -> None:
    assert bool(answer) == (answer is Answer.OK)


def test_a_partition_reads_as_a_path() -> None:
    assert "openai/thread/chat" == str(Partition("openai", "thread", "chat"))


# --- what is said in the log


FACTS = {"provider": "openai", "kind": "thread", "policy": "caht"}


def test_a_subject_that_is_kept_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    facts = {"provider": "openai", "kind": "thread", "policy": "kept once", "id": "thread_1"}
    notices.subject_kept(facts)
    notices.subject_kept(facts)

    assert ["lapse kept the subject of thread thread_1"] == [line.partition(":")[0] for line in caplog.messages]


def test_a_lost_call_is_one_line_of_json(caplog: pytest.LogCaptureFixture) -> None:
    notices.lost(OSError("away"), [{"call": "touch", "id": "thread_1"}])

    assert ['lapse call failed: {"error":"away","call":"touch","id":"thread_1"}'] == caplog.messages


def test_a_name_is_said_once() -> None:
    facts = {**FACTS, "policy": "said-once"}

    assert [True, False] == [notices.first(facts), notices.first(facts)]


def test_a_name_that_a_worker_has_published_and_not_swept_yet_is_no_mistake(caplog: pytest.LogCaptureFixture) -> None:
    notices.unmanaged(FACTS, ["openai/thread/caht"])

    assert [] == caplog.records


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ([], "no worker has published its policies yet"),
        (["openai/thread/chat", "openai/file/long"], "did you mean openai/thread/chat?"),
        (["z/z/z", "a/b"], "workers know a/b, z/z/z"),
    ],
)
def test_an_unmanaged_name_is_answered_with_what_there_is(
    caplog: pytest.LogCaptureFixture, known: list[str], said: str
) -> None:
    notices.unmanaged(FACTS, known)

    assert caplog.messages == [
        f"lapse stored openai/thread/caht as unmanaged: no worker knows it, so nothing deletes it; {said}"
    ]
