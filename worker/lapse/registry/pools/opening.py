"""What reaches the registry that a URL names: one server, the primary that Sentinels name, or a cluster."""

from typing import Any

from lapse.registry.connection import CONNECT_TIMEOUT, MOST, url_of
from lapse.registry.pools.address import CLUSTER, several
from lapse.registry.pools.aiocluster import ClusterLoops
from lapse.registry.pools.aiopool import LoopPools
from lapse.registry.pools.cluster import ClusterPool
from lapse.registry.pools.pool import Pool


def threads(url: str | None, timeout: float, connect_timeout: float, most: int = MOST) -> Pool | ClusterPool:
    """Return connections for threads; see ``Pool``.

    Raises:
        ConfigError: the URL cannot be used.

    """
    target = several(url_of(url))
    if target and target.what == CLUSTER:
        return ClusterPool(target, timeout, connect_timeout, most)
    return Pool(url, timeout, connect_timeout, most)


def loops(
    url: str | None,
    timeout: float,
    connect_timeout: float = CONNECT_TIMEOUT,
    most: int = MOST,
    *,
    resend: bool,
    **options: Any,
) -> LoopPools | ClusterLoops:
    """Return connections for event loops; see ``LoopPools``.

    Raises:
        ConfigError: the URL cannot be used.

    """
    target = several(url_of(url))
    if target and target.what == CLUSTER:
        return ClusterLoops(target, timeout, connect_timeout, most, resend=resend, **options)
    return LoopPools(url, timeout, connect_timeout, most, resend=resend, **options)
