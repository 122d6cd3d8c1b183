"""Which node of a cluster a command goes to, and what is done with what it answers. No I/O but the clock.

What a node redirects, or cannot do while a hash slot moves, it has not done: it is sent again, as long as the call may
take. Commands of different hash slots go one after the other, each after the reply to the one before: an edge stands
before what needs it. Valkey describes the answers in topics/cluster-spec.
"""

import time
from collections.abc import Generator, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import redis
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, NoScriptError, TryAgainError

from lapse.registry.pools.address import Node
from lapse.registry.pools.declared import Declaring
from lapse.registry.pools.unpacking import key_of
from lapse.registry.scripts import packed

T = TypeVar("T")

SLOTS = 16384
PAUSE = 0.004
"""Seconds until what cannot be done yet is tried again."""
ENOUGH = 0.02
"""Seconds that another try takes: with less left, a connection would be given up for a reply that is on its way."""
_ASKING, _LOOK, _PING = packed("ASKING"), packed("CLUSTER", "SLOTS"), packed("PING")
_WAIT = packed("WAIT", 1, 1)[: -len(b"$1\r\n1\r\n$1\r\n1\r\n")]
_AWAY = (redis.ConnectionError, redis.TimeoutError, OSError)
_NAMELESS = "?"
"""What a node announces by which clients shall know it by a name, and that has none."""


class Send(NamedTuple):
    """Commands for a node: their replies are to be sent back, or why there are none is to be thrown."""

    to: Node
    commands: list[bytes]


class Pause(NamedTuple):
    """A wait, in seconds."""

    seconds: float


class TimeLeft:
    """Until when a call may go on, by a clock that only goes forward.

    Attributes:
        until: On that clock, in seconds.

    """

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds that are left; below zero when it is over."""
        return self.until - time.monotonic()

    def spare(self, seconds: float) -> None:
        """Do not count so many of them."""
        self.until += seconds


Talk = Generator[Send | Pause, Any, T]


class Router:
    """What a client knows of a cluster.

    Args:
        seeds: Nodes to ask first.
        resend: Send again what may have been carried out: it has the effect and the answer of once.

    """

    def __init__(self, seeds: Iterable[Node], *, resend: bool = False) -> None:
        self._seeds = tuple(seeds)
        self._resend = resend
        self._table: list[Node | None] = [None] * SLOTS
        self._stale = True
        self._failing: Node | None = None
        self._declaring = Declaring()

    @property
    def failed(self) -> bool:
        """True once a node did not answer."""
        return self._failing is not None

    @property
    def met(self) -> bool:
        """True once a node has said which of them serves what."""
        return any(self._table)

    @property
    def primaries(self) -> list[Node]:
        """The nodes that serve hash slots, as far as one has said it."""
        return sorted({one for one in self._table if one and one.host != _NAMELESS})

    def exchange(self, commands: list[bytes], by: TimeLeft) -> Talk[list[Any]]:
        """Say commands, and return a reply each; an error reply in its place.

        Args:
            commands: Packed.
            by: When the call has to end.

        Raises:
            redis.RedisError, OSError: a node did not answer, or none serves a hash slot.

        """
        if self._stale:
            yield from self._look()
        replies: list[Any] = []
        try:
            for slot, run in groupby(_placed(commands), itemgetter(0)):
                replies += yield from self._said(slot, [command for _, command in run], by)
        except _AWAY:
            self._stale = True
            raise
        return replies

    def _said(self, slot: int, commands: list[bytes], by: TimeLeft) -> Talk[list[Any]]:
        wanted = [self._declaring.command(command) for command in commands]
        try:
            found = yield self._sending(slot, wanted)
        except _AWAY:
            self._failing = self._table[slot]
            if not self._resend or by.left < ENOUGH:
                raise
            yield from self._look()
            found = yield self._sending(slot, wanted)
        replies, elsewhere = [], None
        for command, reply in zip(commands, found, strict=True):
            if _waits(command) and elsewhere:  # what was sent again was written there, and later than this waited for
                _, reply = yield Send(elsewhere, [_PING, command])  # noqa: PLW2901 - the reply that counts
            settled, to = yield from self._settled(slot, command, reply, by)
            replies.append(settled)
            elsewhere = to or elsewhere
        return replies

    def _settled(self, slot: int, command: bytes, reply: Any, by: TimeLeft) -> Talk[tuple[Any, Node | None]]:
        """Send a command again, where it is to go, until its reply is one to it; return where that was too."""
        text, sent = False, None
        while isinstance(reply, redis.RedisError):
            ahead: list[bytes] = []
            to = self._at(slot)
            if isinstance(reply, MovedError):
                to = self._moved(slot, reply, to)
            elif isinstance(reply, AskError):
                to, ahead = _named(reply, to), [_ASKING]
            elif isinstance(reply, TryAgainError | ClusterDownError):
                yield Pause(PAUSE)
                to = yield from self._again(slot, reply)
            elif isinstance(reply, NoScriptError) and not text:
                text = True
            elif not self._declaring.learned(command, reply):
                return reply, sent
            if by.left < ENOUGH:
                moves = TryAgainError(f"hash slot {slot} moves: {reply}")
                return reply if isinstance(reply, ClusterDownError) else moves, sent
            sent = to
            found = yield Send(to, [*ahead, self._declaring.command(command, text=text)])
            reply = found[-1]
        return reply, sent

    def _again(self, slot: int, reply: redis.RedisError) -> Talk[Node]:
        if isinstance(reply, ClusterDownError):
            yield from self._look()
        return self._at(slot)

    def _sending(self, slot: int, commands: list[bytes]) -> Send:
        return Send(self._at(slot), commands)

    def _at(self, slot: int) -> Node:
        found = self._table[slot]
        if found is None:
            self._stale = True
            raise ClusterDownError(f"no node of the cluster serves hash slot {slot}")
        return _reachable(found)

    def _moved(self, slot: int, reply: MovedError, said_by: Node) -> Node:
        self._table[slot] = to = _named(reply, said_by)
        self._stale = True  # most often other slots moved along
        return to

    def _look(self) -> Talk[None]:
        """Ask one node after the other which of them serves what; the one that failed last is asked last."""
        known = dict.fromkeys([*self.primaries, *self._seeds])
        failed: Exception | None = None
        for one in sorted(known, key=lambda address: address == self._failing):
            try:
                (reply,) = yield Send(one, [_LOOK])
            except _AWAY as error:
                failed = error
                continue
            if not isinstance(reply, redis.RedisError):
                self._read(reply, one)
                return
            failed = reply
        if failed and not self.met:
            raise failed

    def _read(self, reply: list[Any], said_by: Node) -> None:
        table: list[Node | None] = [None] * SLOTS
        for first, last, (host, port, *_), *_replicas in reply:
            name = host.decode() if isinstance(host, bytes) else host
            table[first : last + 1] = [Node(name or said_by.host, port)] * (last + 1 - first)
        self._table, self._stale = table, False


def _placed(commands: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield each command with its hash slot: of a WAIT, that of what it waits for."""
    slot = 0
    for command in commands:
        key = key_of(command)
        slot = key_slot(key) if key is not None else slot if _waits(command) else 0
        yield slot, command


def _waits(command: bytes) -> bool:
    return command.startswith(_WAIT)


def _named(reply: AskError, said_by: Node) -> Node:
    return _reachable(Node(reply.host or said_by.host, reply.port))


def _reachable(node: Node) -> Node:
    if node.host == _NAMELESS:
        raise redis.ConnectionError(
            f"the cluster's node at port {node.port} announces no hostname: set cluster-announce-hostname there, or"
            " cluster-preferred-endpoint-type to ip"
        )
    return node
