"""Clusters and Sentinels of real servers on loopback ports."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any, Self

import redis
from redis.crc import key_slot

from lapse.sandbox.redis_server import EmbeddedRedis, die_with_parent, free_port, server_binary

EVERYWHERE = bool(os.environ.get("LAPSE_TEST_CLUSTER"))
"""Whether the run's server is a cluster of one node: it refuses keys of two hash slots."""
SLOTS = 16384
WITHIN = 15.0
AT_ONCE = ("--repl-diskless-sync-delay", "0")
SHORT = 500
"""Milliseconds after which a node that does not answer is taken for gone."""


def as_lapse_names_it(url: str) -> str:
    """Return the URL of the run's server as an operator gives it: a cluster's, where it is one."""
    return url.replace("redis://", "redis+cluster://", 1) if EVERYWHERE else url


def environ(url: str) -> dict[str, str]:
    """Return what names the run's server to lapse, and to Celery, whose Redis transport knows no cluster."""
    broker = {"CELERY_BROKER_URL": url} if EVERYWHERE else {}
    return {"REDIS_URL": as_lapse_names_it(url), **broker}


def until(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {WITHIN} s"
        time.sleep(0.02)


class Cluster:
    """Primaries that share the hash slots, and as many replicas of each as are asked for."""

    def __init__(self, primaries: int, replicas: int = 0, *more: str) -> None:
        self._stack = ExitStack()
        self._count = primaries
        options = (
            *more,
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            str(SHORT),
            "--repl-diskless-sync-delay",
            "0",
        )
        self._buses = [free_port() for _ in range(primaries * (1 + replicas))]
        self.nodes = [
            self._stack.enter_context(self._node(*options, "--cluster-port", str(bus))) for bus in self._buses
        ]
        self.clients: list[Any] = [
            self._stack.enter_context(redis.Redis.from_url(node.url, decode_responses=True)) for node in self.nodes
        ]
        self._join()

    @property
    def url(self) -> str:
        """What a registry is made with."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes[: self._count])}"

    @property
    def ports(self) -> list[int]:
        """The ports that clients are told, of each node."""
        return [node.port for node in self.nodes]

    def _node(self, *options: str) -> EmbeddedRedis:
        return EmbeddedRedis(*options)

    def owner(self, key: str) -> int:
        """Return which of the nodes serves a key, by the first that answers."""
        slot = key_slot(key.encode())
        for client in self.clients:
            try:
                shown = client.execute_command("CLUSTER SLOTS")
            except (redis.RedisError, OSError):
                continue
            return next(self.ports.index(at[1]) for first, last, at, *_ in rows(shown) if first <= slot <= last)
        raise AssertionError("no node answers")

    def migrating(self, key: str, to: int) -> "Migration":
        """Begin to move a key's hash slot to another primary."""
        return Migration(self, key_slot(key.encode()), self.owner(key), to)

    def move_whole(self, key: str, to: int) -> None:
        """Move a key's hash slot to another primary as a server does it itself, all keys at one moment; wait for it."""
        slot, source = key_slot(key.encode()), self.clients[self.owner(key)]
        source.execute_command("CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", self.id(to))
        until(lambda: _over(source.execute_command("CLUSTER GETSLOTMIGRATIONS")), "the hash slot has moved")
        until(lambda: self.owner(key) == to, "the cluster knows it")

    def _join(self) -> None:
        share = SLOTS // self._count
        for i, client in enumerate(self.clients):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", i + 1)
            if i < self._count:
                last = SLOTS - 1 if i == self._count - 1 else (i + 1) * share - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", i * share, last)
            if i:
                self.clients[0].execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[i].port, self._buses[i])
        until(lambda: all(self._known(client) == len(self.nodes) for client in self.clients), "all know each other")
        for i, client in enumerate(self.clients[self._count :]):
            client.execute_command("CLUSTER REPLICATE", self.id(i % self._count))
        until(lambda: all(self._state(client) == "ok" for client in self.clients), "the cluster serves")
        until(lambda: all(map(_in_step, self.clients)), "replicas are in step")

    def id(self, node: int) -> str:
        """Return a node's id."""
        return str(self.clients[node].execute_command("CLUSTER MYID"))

    def _known(self, client: Any) -> int:
        return int(info(client)["cluster_known_nodes"])

    def _state(self, client: Any) -> str:
        return info(client)["cluster_state"]

    def close(self) -> None:
        """End all servers."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()


class Migration:
    """A hash slot that moves, key by key."""

    def __init__(self, cluster: Cluster, slot: int, source: int, to: int) -> None:
        self.cluster, self.slot, self.source, self.to = cluster, slot, source, to
        self._from, self._target = cluster.clients[source], cluster.clients[to]
        self._target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", cluster.id(source))
        self._from.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", cluster.id(to))

    def left(self) -> list[str]:
        """Return what has not moved yet."""
        return sorted(self._from.execute_command("CLUSTER GETKEYSINSLOT", self.slot, 1000))

    def moved(self) -> list[str]:
        """Return what has moved."""
        return sorted(self._target.execute_command("CLUSTER GETKEYSINSLOT", self.slot, 1000))

    def move(self, *keys: str) -> None:
        """Move keys."""
        for key in keys:
            self._from.execute_command("MIGRATE", "127.0.0.1", self.cluster.nodes[self.to].port, key, 0, 5000)

    def finish(self) -> None:
        """Move what is left, and end."""
        while left := self.left():
            self.move(*left)
        for client in (self._target, self._from):
            client.execute_command("CLUSTER SETSLOT", self.slot, "NODE", self.cluster.id(self.to))


def _over(migrations: Any) -> bool:
    """Return True once the last migration is over; one that failed is an error."""
    state = migrations[0]["state"]
    assert state not in {"failed", "canceled"}, migrations[0]
    return bool(state == "success")


def _in_step(client: Any) -> bool:
    return bool(client.info("replication").get("master_link_status", "up") == "up")


def rows(shown: Any) -> list[Any]:
    """Return CLUSTER SLOTS as it was sent: redis-py makes a mapping of it."""
    if isinstance(shown, dict):
        return [(first, last, list(one["primary"])) for (first, last), one in shown.items()]
    return list(shown)


def info(client: Any) -> dict[str, str]:
    """Return CLUSTER INFO as a mapping."""
    found = client.execute_command("CLUSTER INFO")
    return found if isinstance(found, dict) else dict(line.split(":", 1) for line in found.split())


@contextmanager
def sentinels(directory: Path, count: int = 3) -> Iterator[tuple[str, list[EmbeddedRedis]]]:
    """Run a primary and a replica that Sentinels watch; give the URL of a registry, and both servers."""
    with ExitStack() as stack:
        primary = stack.enter_context(EmbeddedRedis(*AT_ONCE))
        url, replica = watched(stack, directory, primary.port, count)
        yield url, [primary, replica]


def watched(stack: ExitStack, directory: Path, port: int, count: int = 3) -> tuple[str, EmbeddedRedis]:
    """Run a replica of the primary at a port, and Sentinels of both; return a registry's URL and the replica."""
    replica = stack.enter_context(EmbeddedRedis("--replicaof", f"127.0.0.1 {port}", *AT_ONCE))
    ports = [stack.enter_context(sentinel(directory / f"{n}.conf", port, count)) for n in range(count)]
    for one in ports:
        with redis.Redis(port=one, decode_responses=True) as client:
            until(lambda: _sees(client, count), "the Sentinels know each other and the replica")
    return f"redis+sentinel://{','.join(f'127.0.0.1:{one}' for one in ports)}/mymaster/0", replica


@contextmanager
def sentinel(file: Path, watched: int, count: int, *said: str) -> Iterator[int]:
    """Run one of so many Sentinels of the primary at a port, with lines of its own; give its port."""
    port = free_port()
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {file.parent}\n"
        f"sentinel monitor mymaster 127.0.0.1 {watched} {count // 2 + 1}\n"
        f"sentinel down-after-milliseconds mymaster {SHORT}\nsentinel failover-timeout mymaster 3000\n"
        + "".join(f"sentinel {line}\n" for line in said)
    )
    with Popen(die_with_parent(server_binary(), str(file), "--sentinel"), stdout=DEVNULL, stderr=DEVNULL) as process:
        try:
            with redis.Redis(port=port) as client:
                until(lambda: _answers(client), "a Sentinel answers")
            yield port
        finally:
            process.kill()


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _sees(client: Any, count: int) -> bool:
    shown = client.sentinel_master("mymaster")
    return (shown["num-other-sentinels"], shown["num-slaves"]) == (count - 1, 1)
