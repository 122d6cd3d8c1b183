"""An operator intervenes."""

from faults import operator
from faults.rig import Rig


def test_a_pause_is_quiet_within_two_seconds(rig: Rig) -> None:
    operator.paused_under_load(rig, ids=1500)
