"""What a provider does wrong, at any size."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from faults.rig import Rig
from oracle.history import History
from support.deployment import policy

TTL = 1.0


def misbehaving(
    rig: Rig, faults: Sequence[Mapping[str, Any]], *, ids: int, within: float, proof: bool = True
) -> History:
    """Delete ids at a provider with these faults until all are gone.

    With ``proof``, one id is deleted before, and one lives.
    """
    rig.configure(policy())
    rig.beat()
    rig.worker(children=2)
    if proof:
        rig.gone(rig.seed(1), 30)
        rig.witness()
    rig.provider.faults(faults, seed=ids)
    rig.gone(rig.seed(ids), within)
    assert rig.quarantined("chat") == set()
    return rig.judge(within=within)


def lags(rig: Rig, policy: str, *, seconds: float) -> float:
    """Register an id now and then; return the 95th percentile of the seconds from being due until being gone."""
    registered: dict[str, float] = {}
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        registered |= dict.fromkeys(rig.seed(2, policy), time.time())
        time.sleep(0.25)
    rig.gone(list(registered), 60)
    ended = {one.id: one.at for one in rig.traffic.deletes() if one.id in registered}
    waited = sorted(ended[id_] - at - TTL for id_, at in registered.items())
    return waited[len(waited) * 95 // 100]
