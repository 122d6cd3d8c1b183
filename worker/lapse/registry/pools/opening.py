"""What reaches the registry that a URL names: one server, the primary that Sentinels name, or a cluster."""

from lapse.registry.connection import MOST
from lapse.registry.pools.address import CLUSTER
from lapse.registry.pools.aiopool import LoopPools
from lapse.registry.pools.cluster import ClusterLoops, ClusterPool
from lapse.registry.pools.credentials.endpoint import RedisEndpoint, endpoint_of
from lapse.registry.pools.pool import Pool


def threads(
    url: str | RedisEndpoint | None, timeout: float, connect_timeout: float, most: int = MOST
) -> Pool | ClusterPool:
    """Return connections for threads; see ``Pool``.

    Raises:
        ConfigError: the URL cannot be used.

    """
    endpoint = endpoint_of(url)
    if endpoint.several and endpoint.several.what == CLUSTER:
        return ClusterPool(endpoint, timeout, connect_timeout, most)
    return Pool(endpoint, timeout, connect_timeout, most)


def loops(
    url: str | RedisEndpoint | None, timeout: float, connect_timeout: float, most: int, *, resend: bool
) -> LoopPools | ClusterLoops:
    """Return connections for event loops; see ``LoopPools``.

    Raises:
        ConfigError: the URL cannot be used.

    """
    endpoint = endpoint_of(url)
    if endpoint.several and endpoint.several.what == CLUSTER:
        return ClusterLoops(endpoint, timeout, connect_timeout, most, resend=resend)
    return LoopPools(endpoint, timeout, connect_timeout, most, resend=resend)
