"""What the application says while a worker deletes either counts, or is answered as too late."""

from faults import races
from faults.rig import Rig


def test_what_is_said_during_a_sweep_counts_or_is_too_late(rig: Rig) -> None:
    answered = races.said_while_swept(rig, ids=1200, says=300, seed=1, within=60)

    assert min(answered[verb, "ok"] for verb in ("hold", "touch", "forget")) > 0
    assert sum(answered[verb, "too_late"] for verb in ("hold", "touch", "forget")) > 0
