"""What a process remembers of its registry, and whether what it sees now is that registry, whole, with the same clock.

No I/O. All times are milliseconds: of Redis TIME, or of a local clock that counts sleep and that nobody sets.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lapse.ledger.halts import Halt
from lapse.ledger.reasons import HaltReason

SETTLED = 10_000
"""What was written less long ago a crash of Redis may lose: with ``appendfsync everysec``, a second's worth."""

JUMP = 60_000
"""How far Redis TIME may stray from the local clock between two looks: NTP corrects less than this."""

HALF_IMPORTED = "an export was not imported to its end: what it holds besides is not known here"
"""What a halt of that reason says."""

DRIFT = 1e-4
"""How fast two clocks drift apart that nobody corrects, 100 ppm: a process may not have looked for weeks."""


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """Redis TIME less the local clock, known as exactly as an answer was quick: between ``least`` and ``most``."""

    least: int
    most: int

    def strayed(self, before: "ClockOffset", slack: float) -> int:
        """Return by how much this lies outside of ``before`` and the slack at least; 0 if it may be the same."""
        if self.least > before.most + slack:
            return self.least - before.most
        if self.most < before.least - slack:
            return self.most - before.least
        return 0


@dataclass(frozen=True, slots=True)
class Observation:
    """What one look at the registry found.

    Attributes:
        now: Redis TIME.
        epoch: The registry's id; None if it has none.
        sequence: How often the registry was looked at, at most once a second, before this look.
        at: When the sequence last moved on, before this look.
        reached: The sequence after this look.
        accepted: True if an operator said that this epoch takes the place of the one known.
        clock_accepted: When an operator last said that the clock is right; 0 for never.
        asked: The local clock before the look.
        answered: The local clock after it.
        moved: Where ``lapse export --move`` took everything; empty if it did not.
        importing: The export whose import is not complete; empty if there is none.
        started: Since when at the latest the server runs, where that was asked; 0 if not, or if it does not say.

    """

    now: int
    epoch: str | None
    sequence: int
    at: int
    reached: int
    accepted: bool
    clock_accepted: int
    asked: int
    answered: int
    moved: str = ""
    importing: str = ""
    started: int = 0

    @property
    def offset(self) -> ClockOffset:
        """How far Redis TIME is ahead of the local clock."""
        return ClockOffset(self.now - self.answered, self.now - self.asked)

    @property
    def behind(self) -> bool:
        """True if Redis TIME was later before: nobody needs to remember that, the registry does."""
        return self.now < self.at - JUMP


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered.

    Attributes:
        epoch: The registry's id.
        sequence: What its sequence has reached for certain: it was written long enough ago to be on disk.
        at: When it did.
        recent: Later values of the sequence, and when they were written.
        offset: How far Redis TIME was ahead of the local clock; None if the local clock began anew since.
        looked: The local clock at the last look.
        before: The offset before a jump that still stands.
        behind: True while Redis TIME is earlier than the registry has seen it.

    """

    epoch: str
    sequence: int = 0
    at: int = 0
    recent: tuple[tuple[int, int], ...] = ()
    offset: ClockOffset | None = None
    looked: int = 0
    before: ClockOffset | None = None
    behind: bool = False


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why nothing may be deleted: the reason of the halt, and its text."""

    reason: str
    detail: str


def sighted(stored: Mapping[str, str], known: Known | None, **times: Any) -> Observation:
    """Return what the registry's epoch hash says, for whoever reads without moving the sequence on."""
    epoch = stored.get("id")
    sequence = int(stored.get("sequence", 0))
    return Observation(
        epoch=epoch,
        sequence=sequence,
        at=int(stored.get("at", 0)),
        reached=sequence,
        accepted=known is None or f"accepted|{known.epoch}" in stored,
        clock_accepted=int(stored.get("clock_accepted", 0)),
        moved=stored.get("moved", ""),
        importing=stored.get("importing", ""),
        **times,
    )


def judge(known: Known | None, sight: Observation) -> Trouble | None:
    """Say what is wrong with the registry, or return None."""
    if sight.importing:
        return Trouble(HaltReason.HALF_IMPORTED, HALF_IMPORTED)
    if known and sight.epoch != known.epoch and not sight.accepted:
        found = f"epoch {sight.epoch}" if sight.epoch else "no epoch"
        return Trouble(
            HaltReason.REGISTRY_LOST,
            f"this Redis has {found}, and {known.epoch} was known: it was wiped, or is another Redis",
        )
    if known and sight.epoch == known.epoch and sight.sequence < known.sequence:
        back = max(0, known.at - sight.at) / 1000
        return Trouble(
            HaltReason.REGISTRY_ROLLED_BACK,
            f"sequence {sight.sequence} is less than {known.sequence}, which was stored before: an older state of this"
            f" Redis was restored, or a replica that was behind took over; the last {back:.0f} s and more are missing",
        )
    if sight.moved:
        return Trouble(HaltReason.MOVED, f"its ids were moved to {sight.moved}, which decides about them from now on")
    return _clock(known, sight)


def _clock(known: Known | None, sight: Observation) -> Trouble | None:
    moved = _jumped(known, sight)
    if moved:
        way = "forward" if moved > 0 else "back"
        text = f"Redis TIME went {way} by {abs(moved) / 1000:.0f} s against this host's clock"
        return Trouble(HaltReason.CLOCK_JUMPED, text)
    # What returned was later only while it was wrong: whoever saw both times need not be told.
    if sight.behind and not (known and _returned(known, sight)):
        return Trouble(
            HaltReason.CLOCK_JUMPED, f"Redis TIME is {(sight.at - sight.now) / 1000:.0f} s earlier than it was before"
        )
    return None


def _jumped(known: Known | None, sight: Observation) -> int:
    """Return how far the clock jumped since the last look: 0 too if it jumped back to where it was, or was accepted."""
    if known is None or known.offset is None or _returned(known, sight) or _accepted(known, sight):
        return 0
    return sight.offset.strayed(known.offset, _slack(known, sight))


def _slack(known: Known, sight: Observation) -> float:
    return JUMP + DRIFT * (sight.asked - known.looked)


def _returned(known: Known, sight: Observation) -> bool:
    return known.before is not None and not sight.offset.strayed(known.before, _slack(known, sight))


def _accepted(known: Known, sight: Observation) -> bool:
    """Return True if an operator accepted the clock since the last look; the look itself says when that was here."""
    return sight.clock_accepted - sight.offset.least > known.looked


def mended(known: Known | None, sight: Observation) -> bool:
    """Return True if a clock that had jumped is right again by itself."""
    if known is None or judge(known, sight):
        return False
    return _returned(known, sight) or (known.behind and not sight.behind)


def remember(known: Known | None, sight: Observation, trouble: Trouble | None = None) -> Known | None:
    """Return what is known after a look: of a registry that is not the known one, nothing is learned."""
    if sight.epoch is None or (trouble and trouble.reason != HaltReason.CLOCK_JUMPED):
        return known
    base = known if known and known.epoch == sight.epoch else Known(sight.epoch)
    newest = (sight.reached, sight.now if sight.reached > sight.sequence else sight.at)
    stands = tuple(one for one in base.recent if one[0] <= sight.sequence or not _crashed(sight, since=one[1]))
    recent = (*stands, newest) if newest not in stands else stands
    seen = ((sight.sequence, sight.at), *recent)
    settled = max([(base.sequence, base.at), *(one for one in seen if sight.now - one[1] >= SETTLED)])
    return replace(
        base,
        sequence=settled[0],
        at=settled[1],
        recent=tuple(one for one in recent if sight.now - one[1] < SETTLED),
        offset=sight.offset,
        looked=sight.answered,
        before=_before(known, sight),
        behind=sight.behind,
    )


def _crashed(sight: Observation, since: int) -> bool:
    """Return True if the server may have lost what was written at a time in a crash: it began, or may have, after that.

    One that ran already and does not have it is a replica that was behind, however long ago it took over.
    """
    return not 0 < sight.started <= since


def _before(known: Known | None, sight: Observation) -> ClockOffset | None:
    """Return the offset before a jump that stands from now on, or None."""
    if known is None or _returned(known, sight) or _accepted(known, sight):
        return None
    return known.before or (known.offset if _jumped(known, sight) else None)


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
