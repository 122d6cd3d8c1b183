"""Servers whose default user is off: replicas copy, and Sentinels promote, as the users that are shipped for them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from lapse.sandbox.redis_server import EmbeddedRedis
from support import acl
from support.clusters import AT_ONCE, sentinel


@contextmanager
def closed(directory: Path, *options: str) -> Iterator[tuple[EmbeddedRedis, Any]]:
    """Run a server that takes nobody without a name any more, and give whoever was there before."""
    directory.mkdir()
    with (
        EmbeddedRedis(*acl.options(directory), *AT_ONCE, *options) as server,
        redis.Redis.from_url(server.url, decode_responses=True, single_connection_client=True) as administrator,
    ):
        administrator.execute_command("ACL", "SETUSER", "default", "off")
        with redis.Redis.from_url(server.url) as nobody, pytest.raises(redis.AuthenticationError):
            nobody.ping()
        yield server, administrator


@pytest.mark.parametrize("named", [True, False], ids=["as its user", "without a name"])
def test_a_replica_copies_as_its_user_and_not_without_one(
    tmp_path: Path, wait_until: Callable[..., None], named: bool
) -> None:
    with closed(tmp_path / "primary") as (primary, administrator):
        said = ("--masteruser", acl.REPLICA, "--masterauth", acl.password(acl.REPLICA)) if named else ()
        with EmbeddedRedis("--replicaof", f"127.0.0.1 {primary.port}", *AT_ONCE, *said) as replica:
            log = replica.directory / "server.log"
            if named:
                wait_until(lambda: 1 == administrator.info("replication")["connected_slaves"], what="a replica")
            else:
                wait_until(lambda: "NOAUTH" in log.read_text(), what="its refusal")


def test_sentinels_promote_a_replica_as_their_user(tmp_path: Path, wait_until: Callable[..., None]) -> None:
    with ExitStack() as stack:
        primary, _ = stack.enter_context(closed(tmp_path / "primary"))
        said = ("--masteruser", acl.REPLICA, "--masterauth", acl.password(acl.REPLICA))
        of = f"127.0.0.1 {primary.port}"
        replica, _ = stack.enter_context(closed(tmp_path / "replica", "--replicaof", of, *said))
        of_sentinels = (f"auth-user mymaster {acl.SENTINEL}", f"auth-pass mymaster {acl.password(acl.SENTINEL)}")
        port = stack.enter_context(sentinel(tmp_path / "sentinel.conf", primary.port, 1, *of_sentinels))
        # As a worker: Sentinels close what is open at a server that they promote, the administrator's too.
        copy: Any = stack.enter_context(
            redis.Redis.from_url(acl.as_user(replica.url, acl.WORKER), decode_responses=True)
        )
        watching: Any = stack.enter_context(redis.Redis(port=port, decode_responses=True))
        wait_until(lambda: 1 == watching.sentinel_master("mymaster")["num-slaves"], what="a Sentinel that knows both")
        wait_until(lambda: "up" == copy.info("replication")["master_link_status"], what="a copy")

        primary.stop(kill=True)

        wait_until(lambda: "master" == copy.info("replication")["role"], 30, what="a promotion")
        wait_until(lambda: ("127.0.0.1", replica.port) == watching.sentinel_get_master_addr_by_name("mymaster"), 30)
