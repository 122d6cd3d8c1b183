"""redis-py's own clients, for what reads the registry as it is stored: the command line, the exporter and beat."""

from typing import Any, cast

import redis
from redis.cluster import ClusterNode, RedisCluster

from lapse.errors import RegistryUnavailable
from lapse.registry.connection import CONNECT_TIMEOUT
from lapse.registry.pools import sentinel
from lapse.registry.pools.address import CLUSTER, several


def client_of(url: str, **options: Any) -> redis.Redis:
    """Return a client of what a registry's URL names; ``options`` are redis-py's own.

    Raises:
        ConfigError: the URL cannot be read.
        RegistryUnavailable: no node of a cluster answers.

    """
    target = several(url)
    if target is None:
        return redis.Redis.from_url(url, **options)
    if target.what == CLUSTER:
        given = redis.connection.parse_url(target.url(target.addresses[0]))
        made = given.pop("connection_class", None)
        del given["host"], given["port"]
        nodes = [ClusterNode(node.host, node.port) for node in target.addresses]
        try:
            cluster = RedisCluster(startup_nodes=nodes, ssl=made is not None, **given, **options)
        except redis.exceptions.RedisClusterException as error:
            raise RegistryUnavailable(f"no node of the registry's cluster answers: {error}") from None
        return cast(
            "redis.Redis", cluster
        )  # its commands are those of one server, as far as they name keys of one hash slot
    made, given = sentinel.connections(redis.connection, target, options.get("socket_timeout") or CONNECT_TIMEOUT)
    return redis.Redis(connection_pool=redis.ConnectionPool(made, **given, **options))
