"""Processes are killed: nothing is lost, and no more is deleted twice than was in flight."""

from faults import crash
from faults.rig import Rig


def test_killed_children_and_workers_lose_nothing(rig: Rig) -> None:
    crash.killed_all_the_time(rig, ids=600, seed=1, within=60, latency="150ms")
