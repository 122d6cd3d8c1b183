"""All ids of a subject: found, held, let go, expired; the contract of Registry and AsyncRegistry."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from lapse import InvalidResource
from lapse.registry.commands import Commands
from lapse.registry.subjects import Subjects

THREADS, FILES = "lapse:{openai:thread}:", "lapse:{openai:file}:"
S = "user:42"


def found(registry: Any, subject: str = S, **page: Any) -> list[tuple[str, str]]:
    return [(one.resource.kind, one.resource.id) for one in registry.resources(subject=subject, **page).records]


def entries(raw: redis.Redis, slot: str = THREADS) -> list[str]:
    return list(map(str, raw.zrange(slot + "subjects", 0, -1)))


def test_every_id_of_a_subject_is_found_whatever_its_kind(registry: Any) -> None:
    registry.register("thread", "thread_1", "chat", subject=S)
    registry.register("file", "file-1", "uploads", subject=[S, "user:7"])
    registry.register("thread", "thread_2", "chat", subject="user:421")
    registry.register("thread", "thread_3", "chat", subject="user:4")

    assert [("file", "file-1"), ("thread", "thread_1")] == found(registry)
    assert [("file", "file-1")] == found(registry, "user:7")
    assert ("user:42", "user:7") == registry.get("file", "file-1").subjects
    assert [] == found(registry, "user:")


def test_pages_are_bounded_and_leave_none_out(registry: Any) -> None:
    for kind in ("file", "thread"):
        registry.register_many(
            {"kind": kind, "id": f"{kind}_{n:03d}", "policy": "chat", "subject": S} for n in range(25)
        )
    pages: list[list[str]] = []
    after = None
    while True:
        page = registry.resources(subject=S, after=after, limit=10)
        pages.append([one.resource.id for one in page.records])
        after = page.after
        if after is None:
            break

    assert [10, 10, 10, 10, 10] == [len(page) for page in pages]
    assert 50 == len({id_ for page in pages for id_ in page})


def test_a_page_may_have_ten_thousand(registry: Any) -> None:
    registry.register_many(
        {"kind": "thread", "id": f"thread_{n}", "policy": "chat", "subject": S} for n in range(9_000)
    )

    assert 9_000 == len(registry.resources(subject=S, limit=10_000).records)


@pytest.mark.parametrize("end", ["forget", "forget and release", "delete"])
def test_what_is_no_longer_tracked_is_nobodys(registry: Any, raw: redis.Redis, end: str) -> None:
    registry.register("thread", "thread_1", "chat", subject=S, uses=[("file", "file-1")], labels={"a": "b"})
    if end == "delete":
        registry.deleted("thread", "thread_1")
    else:
        registry.forget("thread", "thread_1", release=end != "forget")

    assert ([], []) == (found(registry), entries(raw))
    assert registry.register("thread", "thread_1", "chat").new
    assert None is registry.get("thread", "thread_1").subject
    assert [] == entries(raw)


def test_a_tracked_id_keeps_its_subject_and_the_answer_says_so(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat")
    given = registry.register("thread", "thread_1", "chat", subject=S)
    same = registry.register("thread", "thread_1", "chat", subject=S)
    other = registry.register("thread", "thread_1", "chat", subject="user:7")
    told = registry.register_many([{"kind": "thread", "id": "thread_1", "policy": "chat", "subject": "user:8"}])

    assert (False, False, True, 1) == (given.subject_kept, same.subject_kept, other.subject_kept, told.subject_kept)
    assert S == registry.get("thread", "thread_1").subject
    assert [f"{S}\x1fthread_1"] == entries(raw)


def test_an_id_that_begins_anew_may_be_anothers(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat", subject=S)
    registry.forget("thread", "thread_1")

    assert not registry.register("thread", "thread_1", "chat", subject="user:7").subject_kept
    assert ["user:7\x1fthread_1"] == entries(raw)


def test_a_hold_of_a_subject_holds_what_is_there_and_what_comes(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat", subject=S)
    registry.register("file", "file-1", "chat", subject=["user:1", S])
    registry.register("thread", "thread_other", "chat", subject="user:7")

    answer = registry.hold_subject(S, reason="case 7", actor="legal")
    late = registry.register("thread", "thread_late", "chat", subject=S)

    assert (True, 2, 0) == (bool(answer), answer.changed, answer.remaining)
    assert "hold" == late.governed_by
    for kind, id_ in (("thread", "thread_1"), ("file", "file-1"), ("thread", "thread_late")):
        one = registry.get(kind, id_)
        assert ("held", "case 7", "legal", S) == (one.state, one.hold.reason, one.hold.actor, one.hold.subject)
    assert "tracked" == registry.get("thread", "thread_other").state


def test_the_end_of_a_subjects_hold_ends_no_other_hold(registry: Any) -> None:
    for id_ in ("thread_1", "thread_2", "thread_3"):
        registry.register("thread", id_, "chat", subject=[S, "user:7"] if id_ == "thread_3" else S)
    registry.hold("thread", "thread_2", reason="its own")
    registry.hold_subject(S, reason="case 7")
    registry.hold_subject("user:7", reason="case 8")

    answer = registry.unhold_subject(S)

    assert (True, 1) == (bool(answer), answer.changed)
    assert ["tracked", "held", "held"] == [
        registry.get("thread", id_).state for id_ in ("thread_1", "thread_2", "thread_3")
    ]
    assert registry.unhold("thread", "thread_2")
    assert "tracked" == registry.get("thread", "thread_2").state


def test_the_end_of_an_ids_hold_leaves_that_of_its_subject(registry: Any) -> None:
    registry.register("thread", "thread_1", "chat", subject=S)
    registry.hold("thread", "thread_1", reason="its own")
    registry.hold_subject(S, reason="case 7")

    assert registry.unhold("thread", "thread_1")

    assert ("held", "case 7") == (
        registry.get("thread", "thread_1").state,
        registry.get("thread", "thread_1").hold.reason,
    )


def test_a_hold_reaches_a_slot_that_missed_earlier_ones(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat", subject=S)
    registry.hold_subject("user:1", reason="before")
    registry.register("file", "file-1", "chat", subject="user:1")  # a slot that came after it
    assert registry.hold_subject(S, reason="case 7")

    assert {"user:1", S, "\x1f"} == set(map(str, raw.hkeys(FILES + "subject_holds")))
    assert "hold" == registry.get("file", "file-1").governed_by


def test_a_list_that_was_lost_is_written_anew_from_what_slots_know(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat", subject=S)
    registry.hold_subject(S, reason="case 7")
    raw.delete("lapse:held_subjects")

    registry.hold_subject("user:7", reason="case 8")
    registry.register("thread", "thread_7", "chat", subject="user:7")

    assert {S, "user:7", "\x1f"} == set(map(str, raw.hkeys("lapse:held_subjects")))
    assert ["held", "held"] == [registry.get("thread", id_).state for id_ in ("thread_1", "thread_7")]


def test_a_slot_that_takes_no_hold_is_named_and_the_others_have_it(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat", subject=S)
    registry.register("file", "file-1", "chat", subject=S)
    raw.set(THREADS + "subject_holds", "not a hash")

    answer = registry.hold_subject(S, reason="case 7")

    assert not answer
    assert ["openai/thread"] == [name.partition(":")[0] for name in answer.failed]
    assert "held" == registry.get("file", "file-1").state


def test_all_of_a_subject_is_expired(registry: Any) -> None:
    for n in range(3):
        registry.register("thread", f"thread_{n}", "chat", subject=S)
    registry.register("thread", "thread_other", "chat", subject="user:7")
    at = time.time() + 60

    assert 3 == registry.expire_subject(S, at).changed
    assert [round(at)] * 3 == [round(registry.get("thread", f"thread_{n}").expires_at.timestamp()) for n in range(3)]
    assert None is registry.get("thread", "thread_other").expires_at


def test_what_an_older_client_made_anothers_is_not_expired_with_the_first(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat", subject=S)
    raw.hset(THREADS + "facts", "thread_1", '{"subject":"user:7"}')  # it knows of no index

    assert (0, None) == (registry.expire_subject(S).changed, registry.get("thread", "thread_1").expires_at)


def test_a_list_is_regained_from_a_copy_that_is_whole(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat", subject=S)
    registry.register("file", "file-1", "chat", subject=S)
    registry.hold_subject(S, reason="case 7")
    raw.delete("lapse:held_subjects")
    raw.delete(FILES + "subject_holds")

    registry.hold_subject("user:7", reason="case 8")

    assert {S, "user:7", "\x1f"} == set(map(str, raw.hkeys("lapse:held_subjects")))
    assert {S, "user:7", "\x1f"} == set(map(str, raw.hkeys(FILES + "subject_holds")))


def test_a_hold_that_was_said_anew_stands_so_after_the_list_went_back(registry: Any, raw: redis.Redis) -> None:
    registry.register("thread", "thread_1", "chat", subject=S)
    registry.hold_subject(S, reason="case 7", until=time.time() + 60)
    before: Any = raw.hgetall("lapse:held_subjects")
    registry.hold_subject(S, reason="case 7 goes on")
    raw.delete("lapse:held_subjects")
    raw.hset("lapse:held_subjects", mapping=before)

    registry.hold_subject("user:7", reason="case 8")

    for stored in (raw.hget("lapse:held_subjects", S), raw.hget(THREADS + "subject_holds", S)):
        assert "case 7 goes on" in str(stored)
        assert "until" not in str(stored)


def test_a_statement_is_not_taken_for_one_of_its_number_that_the_list_forgot(
    registry: Any, raw: redis.Redis, wait_until: Callable[..., None]
) -> None:
    """It had looked at the slots before the list went back: nothing was lost then."""
    for n, subject in enumerate((S, "user:7", "user:8")):
        registry.register("thread", f"thread_{n}", "chat", subject=subject)
    registry.hold_subject(S, reason="case 7")
    before: Any = raw.hgetall("lapse:held_subjects")
    registry.hold_subject("user:7", reason="case 8")
    registry.hold_subject("user:9", reason="case 9")
    forgotten = int(raw.hget("lapse:held_subjects", "\x1f"))  # type: ignore[arg-type]
    wait_until(lambda: millis(raw) > forgotten, what="a server that takes over does so later")
    saying = Subjects(Commands("lapse", "openai")).hold("user:8", "case 10", "ann", None)
    commands: Any = next(saying)
    ended = said = False
    while not ended:
        if not said and any(b"user:8" in one for one in commands):
            said = bool(raw.delete("lapse:held_subjects") and raw.hset("lapse:held_subjects", mapping=before))
        try:
            commands = saying.send(replies(raw, commands))
        except StopIteration:
            ended = True

    assert said
    assert "held" == registry.get("thread", "thread_2").state
    assert "user:8" in raw.hkeys(THREADS + "subject_holds")
    registry.register("thread", "thread_3", "chat", subject="user:8")
    assert "held" == registry.get("thread", "thread_3").state


def millis(raw: redis.Redis) -> int:
    seconds, micros = raw.time()
    return int(seconds * 1000 + micros // 1000)


def replies(raw: redis.Redis, commands: list[bytes]) -> list[Any]:
    """Say packed commands, and return what they are answered."""
    connection = raw.connection_pool.get_connection()
    connection.send_packed_command(commands)
    found = []
    for _ in commands:
        try:
            found.append(connection.read_response(disable_decoding=True))
        except redis.ResponseError as error:
            found.append(error)
    raw.connection_pool.release(connection)
    return found


@pytest.mark.parametrize("subject", ["", "  ", "x" * 513, "user:*", "line\nbreak", ["a", "b"], None])
@pytest.mark.parametrize("call", ["resources", "hold_subject", "unhold_subject", "expire_subject"])
def test_what_is_no_subject_is_refused_and_nothing_done(
    registry: Any, raw: redis.Redis, call: str, subject: Any
) -> None:
    more = {"hold_subject": {"reason": "case 7"}}.get(call, {})
    with pytest.raises(InvalidResource, match="subject"):
        registry.resources(subject=subject) if call == "resources" else getattr(registry, call)(subject, **more)

    assert not raw.exists("lapse:held_subjects")


def test_a_subject_with_a_star_is_taken_literally(registry: Any) -> None:
    registry.register("thread", "thread_1", "chat", subject="user:*")
    registry.register("thread", "thread_2", "chat", subject="user:1")

    assert 1 == registry.hold_subject("user:*", reason="case 7").changed
    assert "tracked" == registry.get("thread", "thread_2").state


def test_a_hold_needs_a_reason_and_an_unknown_subject_may_be_held(registry: Any) -> None:
    with pytest.raises(InvalidResource, match="say why"):
        registry.hold_subject(S, reason=" ")
    answer = registry.hold_subject(S, reason="case 7")

    assert (True, 0) == (bool(answer), answer.changed)


@pytest.mark.parametrize("subject", [[], [" "], ["x", "y" * 513], [f"s{n}" for n in range(17)], 7])
def test_a_registration_for_what_is_no_subject_is_refused(registry: Any, subject: Any) -> None:
    with pytest.raises(InvalidResource, match="subject"):
        registry.register("thread", "thread_1", "chat", subject=subject)
