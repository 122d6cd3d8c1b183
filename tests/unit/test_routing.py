"""Where commands go on a cluster, told by what is sent and what is answered."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, TryAgainError

from lapse.registry.pools.address import Node
from lapse.registry.pools.routing import Pause, Router, Send, TimeLeft
from lapse.registry.pools.unpacking import unpacked
from lapse.registry.scripts import Call, packed
from support.lua import named

A, B, C = Node("a", 1), Node("b", 2), Node("c", 3)
HALVES = [[0, 8191, [b"a", 1, b"id"]], [8192, 16383, [b"b", 2, b"id"], [b"c", 3, b"id"]]]
LOW, HIGH = packed("GET", "{b}x"), packed("GET", "{a}x")  # slots 3300 and 15495

Answer = Callable[[Node, list[list[bytes]]], list[Any]]


def run(
    router: Router, commands: list[bytes], answer: Answer, seconds: float = 5
) -> tuple[list[Any], list[tuple[Node, list[bytes]]]]:
    """Return the replies, and which commands went where."""
    sent: list[tuple[Node, list[bytes]]] = []
    talk = router.exchange(commands, TimeLeft(seconds))
    step = next(talk)
    try:
        while True:
            if isinstance(step, Pause):
                step = talk.send(None)
                continue
            assert isinstance(step, Send)
            said = [unpacked(one)[0] for one in step.commands]
            sent.append((step.to, [b" ".join(parts[:2]) for parts in said]))
            try:
                heard = answer(step.to, said)
            except redis.RedisError as error:
                step = talk.throw(error)
            else:
                step = talk.send(heard)
    except StopIteration as end:
        return end.value, sent


def looked(said: list[list[bytes]]) -> list[Any] | None:
    return [HALVES] if said[0][0] == b"CLUSTER" else None


def plain(_to: Node, said: list[list[bytes]]) -> list[Any]:
    return looked(said) or [b"ok"] * len(said)


def first(*errors: Exception) -> Answer:
    """Answer commands with these, one after the other, then well."""
    left = list(errors)

    def answer(to: Node, said: list[list[bytes]]) -> list[Any]:
        return looked(said) or ([*[b"ok"] * (len(said) - 1), left.pop(0)] if left else plain(to, said))

    return answer


def test_commands_of_one_hash_slot_go_together_and_others_after_the_reply_to_them() -> None:
    replies, sent = run(Router([C]), [LOW, LOW, HIGH, LOW], plain)

    assert [b"ok"] * 4 == replies
    assert [(C, [b"CLUSTER SLOTS"]), (A, [b"GET {b}x"] * 2), (B, [b"GET {a}x"]), (A, [b"GET {b}x"])] == sent


def test_a_table_is_asked_for_once() -> None:
    router = Router([C])
    assert (False, False) == (router.met, router.failed)
    run(router, [LOW], plain)

    assert [(A, [b"GET {b}x"])] == run(router, [LOW], plain)[1]
    assert (True, False) == (router.met, router.failed)


def test_the_nodes_that_serve_slots_are_known_once_one_has_said_so() -> None:
    router = Router([A])
    assert [] == router.primaries

    run(router, [LOW], lambda _to, said: looked(said) or [b"x"])

    assert [A, B] == router.primaries


def test_a_moved_slot_is_followed_and_the_table_asked_for_anew() -> None:
    router = Router([C])
    replies, sent = run(router, [LOW], first(MovedError("3300 :2")))

    assert ([b"ok"], (Node("a", 2), [b"GET {b}x"])) == (replies, sent[-1])
    assert [b"CLUSTER SLOTS"] == run(router, [LOW], plain)[1][0][1]


def test_a_node_that_announces_no_name_is_gone_to_by_nobody_and_said_so() -> None:
    halves = [[0, 8191, [b"?", 1, b"id"]], [8192, 16383, [b"b", 2, b"id"]]]

    def answer(_to: Node, said: list[list[bytes]]) -> list[Any]:
        return [halves] if said[0][0] == b"CLUSTER" else [b"ok"]

    router = Router([C])
    for _ in range(2):  # whoever is asked next for the table is a node that can be reached
        with pytest.raises(redis.ConnectionError, match="node at port 1 announces no hostname"):
            run(router, [LOW], answer)
    assert ([B], [b"ok"]) == (router.primaries, run(router, [HIGH], answer)[0])
    with pytest.raises(redis.ConnectionError, match="node at port 9 announces no hostname"):
        run(router, [HIGH], lambda _to, said: looked(said) or [MovedError("15495 ?:9")])


def test_a_slot_that_moves_is_asked_at_its_next_node() -> None:
    replies, sent = run(
        Router([C]), [LOW], first(AskError("3300 c:3"), TryAgainError("rehashing"), AskError("3300 c:3"))
    )

    assert [b"ok"] == replies
    asked = (C, [b"ASKING", b"GET {b}x"])
    assert [asked, (A, [b"GET {b}x"]), asked] == sent[2:]


def test_replicas_are_waited_for_where_a_command_was_carried_out_in_the_end() -> None:
    wait = packed("WAIT", 1, 100)
    moved: list[Exception | bytes] = [MovedError("3300 c:3")]

    def answer(_to: Node, said: list[list[bytes]]) -> list[Any]:
        return looked(said) or [1 if parts[0] == b"WAIT" else moved.pop() if moved else b"ok" for parts in said]

    _, sent = run(Router([C]), [LOW, wait, HIGH, wait], answer)

    assert [
        (A, [b"GET {b}x", b"WAIT 1"]),
        (C, [b"GET {b}x"]),
        (C, [b"PING", b"WAIT 1"]),
        (B, [b"GET {a}x", b"WAIT 1"]),
    ] == sent[1:]


def test_what_cannot_be_done_in_time_is_said_so() -> None:
    (reply,), _ = run(Router([C]), [LOW], first(TryAgainError("rehashing")), seconds=0)

    assert isinstance(reply, TryAgainError)
    assert "hash slot 3300 moves: rehashing" == str(reply)


def test_a_cluster_that_is_down_is_looked_at_again() -> None:
    (reply,), sent = run(Router([C]), [LOW], first(ClusterDownError("down")))

    assert b"ok" == reply
    assert [b"CLUSTER SLOTS"] == sent[2][1]
    (down,), _ = run(Router([C]), [LOW], first(ClusterDownError("down")), seconds=0)
    assert isinstance(down, ClusterDownError)


def test_a_script_that_a_node_does_not_know_is_sent_as_text() -> None:
    command = Call(named("take"), "lapse:{b}:flow", (1, 2, 3, 0), str).command()
    (reply,), sent = run(Router([C]), [command], first(NoScriptError("no"), AskError("3300 c:3"), NoScriptError("no")))

    assert isinstance(reply, NoScriptError)
    assert [b"EVALSHA", b"EVAL", b"ASKING"] == [one[0].split()[0] for _, one in sent[1:]]


def test_a_script_that_finds_other_policies_is_told_that_they_are_declared() -> None:
    command = Call(named("get"), "lapse:{b}:", ("openai", "thread", "t1"), str).command()
    keys: list[bytes] = []

    def answer(to: Node, said: list[list[bytes]]) -> list[Any]:
        keys[:] = said[-1][3:]
        return scripted(to, said)

    scripted = first(redis.ResponseError('LAPSE-AGAIN policies ["chat"]'))
    (reply,), sent = run(Router([C]), [command], answer)

    assert (b"ok", 3) == (reply, len(sent))
    assert b"lapse:{b}:chat:fresh" in keys


def test_time_for_connecting_is_not_a_calls() -> None:
    by = TimeLeft(0)
    by.spare(5)

    assert 4 < by.left < 6


def test_while_no_node_answers_what_was_known_is_tried() -> None:
    router = Router([A])
    run(router, [LOW], plain)
    for _ in range(2):
        with pytest.raises(redis.ConnectionError):
            run(router, [LOW], nobody)

    assert [b"CLUSTER SLOTS"] == run(router, [LOW], plain)[1][0][1]


def test_a_node_that_a_redirection_leads_to_may_be_gone() -> None:
    router = Router([A])

    def answer(to: Node, said: list[list[bytes]]) -> list[Any]:
        return looked(said) or (nobody(to, said) if to == C else [AskError("3300 c:3")])

    with pytest.raises(redis.ConnectionError):
        run(router, [LOW], answer)

    assert [b"CLUSTER SLOTS"] == run(router, [LOW], plain)[1][0][1]


def nobody(_to: Node, _said: list[list[bytes]]) -> list[Any]:
    raise redis.ConnectionError("gone")


def test_any_other_error_is_a_reply() -> None:
    error = redis.ResponseError("WRONGTYPE")

    assert [error] == run(Router([C]), [LOW], first(error))[0]


def gone(node: Node) -> Answer:
    def answer(to: Node, said: list[list[bytes]]) -> list[Any]:
        if to == node:
            raise redis.ConnectionError("gone")
        return plain(to, said)

    return answer


def test_a_node_that_does_not_answer_is_asked_last_from_then_on() -> None:
    router = Router([A, B])
    run(router, [LOW], plain)
    with pytest.raises(redis.ConnectionError):
        run(router, [LOW], gone(A))

    _, sent = run(router, [HIGH], gone(A))

    assert router.failed
    assert [(B, [b"CLUSTER SLOTS"]), (B, [b"GET {a}x"])] == sent


def test_a_worker_sends_it_again_to_whoever_serves_it_then() -> None:
    router = Router([A], resend=True)
    run(router, [LOW], plain)
    moved = [[0, 16383, [b"c", 3]]]

    def answer(to: Node, said: list[list[bytes]]) -> list[Any]:
        return [moved] if said[0][0] == b"CLUSTER" and to != A else gone(A)(to, said)

    replies, sent = run(router, [LOW], answer)

    assert ([b"ok"], (C, [b"GET {b}x"])) == (replies, sent[-1])


def test_nodes_are_asked_until_one_answers() -> None:
    _, sent = run(Router([A, B]), [HIGH], gone(A))

    assert [A, B, B] == [to for to, _ in sent]
    with pytest.raises(redis.ConnectionError):
        run(Router([A]), [LOW], gone(A))


def test_a_server_that_is_no_cluster_says_so() -> None:
    with pytest.raises(redis.ResponseError, match="cluster support disabled"):
        run(Router([A]), [LOW], lambda *_: [redis.ResponseError("This instance has cluster support disabled")])


def test_a_hash_slot_that_nobody_serves_is_an_error() -> None:
    def answer(_to: Node, said: list[list[bytes]]) -> list[Any]:
        return [[[0, 1, [None, 1]]]]

    with pytest.raises(ClusterDownError, match="no node of the cluster serves hash slot 3300"):
        run(Router([A]), [LOW], answer)
