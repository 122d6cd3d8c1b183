"""What a process remembers of its registry that only looks: the exporter finds a loss though no worker is alive."""

from collections.abc import Iterable, Mapping

from lapse.guards.integrity.continuity import Known, judge, remember, sighted
from lapse.ledger.halts import Halt


class ContinuityCheck:
    """Sees what a worker would halt everything for, and changes nothing."""

    def __init__(self, known: Known | None = None) -> None:
        self._known = known

    def epoch(self, stored: Mapping[str, str]) -> str | None:
        """Return the id of the registry that this process watches: the one it knew first, until another is accepted.

        Args:
            stored: The registry's epoch hash; empty while it does not answer.

        """
        return self._known.epoch if self._known else stored.get("id")

    def halts(
        self, stored: Mapping[str, str], slots: Iterable[tuple[str, str]], *, now: int, asked: int, answered: int
    ) -> list[Halt]:
        """Return the halts that a worker would set in these slots.

        Args:
            stored: The registry's epoch hash.
            slots: Every (provider, kind).
            now: Redis TIME in milliseconds.
            asked: The local clock before these were read.
            answered: The local clock after it.

        """
        sight = sighted(stored, self._known, now=now, asked=asked, answered=answered)
        if trouble := judge(self._known, sight):
            return [Halt(*slot, "*", trouble.reason, trouble.detail, now) for slot in slots]
        self._known = remember(self._known, sight)
        return []
