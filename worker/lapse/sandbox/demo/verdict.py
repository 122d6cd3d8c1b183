"""The demo's judgement: it asks the provider, not lapse, and compares with the application's own log."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lapse.sandbox.demo.application import Expectation

CLOCK_SLACK = 0.05  # seconds between two readings of one machine's clock
_DELETIONS = re.compile(r"^lapse_deletions_total\{([^}]*)\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class DemoVerdict:
    """The last line's numbers.

    ``early``: deleted before its time, or at all when it should live. ``missed``: due and still there.
    """

    registered: int
    expired: int
    gone: int
    alive: int
    early: int
    missed: int
    metric: dict[str, int]
    provider_log: dict[str, int]

    @property
    def good(self) -> bool:
        """True if provider, application and metrics tell the same story."""
        whole = self.gone == self.expired and self.gone + self.alive == self.registered
        return whole and not self.early and not self.missed and self.metric == self.provider_log

    def line(self) -> str:
        """Return the last line; conversation items are deleted and compared, and not counted here."""
        return (
            f"registered={self.registered} expired={self.expired} gone={self.gone} alive={self.alive} "
            f"early={self.early} missed={self.missed} "
            f"metric={_objects(self.metric)} provider_log={_objects(self.provider_log)}"
        )


def judge(objects: dict[str, Expectation], alive: set[str], log: Path, metrics: str) -> DemoVerdict:
    """Compare what the application said with what the provider holds and has confirmed."""
    confirmed = confirmations(log)
    ours = [one for one in objects.values() if one.registered]
    early = sum(
        one.due is None or confirmed[one.id][1] < one.due - CLOCK_SLACK
        for one in objects.values()
        if one.id in confirmed
    )
    return DemoVerdict(
        registered=len(ours),
        expired=sum(one.due is not None for one in ours),
        gone=sum(one.id not in alive for one in ours),
        alive=sum(one.id in alive for one in ours),
        early=early,
        missed=sum(one.due is not None and one.id in alive for one in ours),
        metric=deletions(metrics),
        provider_log=dict(Counter(kind for kind, _at in confirmed.values())),
    )


def confirmations(log: Path) -> dict[str, tuple[str, float]]:
    """Return id -> (kind, time) of every DELETE that the provider confirmed."""
    found = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        if one["method"] == "DELETE" and one["status"] == 200:
            found[one["path"].rsplit("/", 1)[1]] = (one["kind"], one["time"])
    return found


def deletions(metrics: str) -> dict[str, int]:
    """Return kind -> confirmed deletions as the exporter counts them; kinds with none left out."""
    found: Counter[str] = Counter()
    for labels, value in _DELETIONS.findall(metrics):
        kind = re.search(r'kind="([^"]*)"', labels)
        if kind and float(value):
            found[kind[1]] += int(float(value))
    return dict(found)


def _objects(by_kind: dict[str, int]) -> int:
    return sum(n for kind, n in by_kind.items() if not kind.endswith("_item"))
