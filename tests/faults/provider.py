"""What a provider does wrong, at any size."""

from collections.abc import Mapping, Sequence
from typing import Any

from deployment import policy
from faults.rig import Rig
from oracle.history import History


def misbehaving(
    rig: Rig, faults: Sequence[Mapping[str, Any]], *, ids: int, within: float, proof: bool = True
) -> History:
    """Delete ids at a provider with these faults until all are gone; with ``proof``, one id is deleted before."""
    rig.configure(policy())
    rig.beat()
    rig.worker(children=2)
    if proof:
        rig.gone(rig.seed(1), 30)
    rig.provider.faults(faults, seed=ids)
    rig.gone(rig.seed(ids), within)
    assert rig.quarantined("chat") == set()
    return rig.judge(within=within)
