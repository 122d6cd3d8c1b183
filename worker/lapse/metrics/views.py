"""What is shown of one partition and of one slot. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lapse.ledger.halts import Halt
from lapse.ledger.reasons import BESIDE
from lapse.registry.model import Partition


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition as it stands. Times in seconds; ``due`` counts what is past its policy and not parked.

    What still stands under a name that the policy was ``formerly`` called is counted with it: the next sweep moves it.
    ``overdue``: seconds that the oldest due one is late, whatever the mode; of those that are backed off or claimed,
    at most 100 an index are looked at. ``configured`` is False for a policy name that applications use and the config
    does not know. ``parked``: held or referenced. ``paused``: the scope of the pause that covers it. ``limited``: its
    pace is used up; ``ramped``: its ramp is. ``last_success``: registry time, seconds since 1970, or None.
    ``extra``: requests that each one deleted so far took before its own; None if none took any.
    """

    partition: Partition
    configured: bool = True
    mode: str | None = None
    registered: int = 0
    due: int = 0
    overdue: float = 0.0
    parked: int = 0
    kept: int = 0
    waiting: int = 0
    claimed: int = 0
    quarantined: int = 0
    would: int = 0
    paused: str | None = None
    halts: tuple[Halt, ...] = ()
    limited: bool = False
    ramped: bool = False
    last_success: float | None = None
    orphans: Mapping[str, int] = field(default_factory=dict)
    extra: float | None = None

    @property
    def enforcing(self) -> bool:
        """True if its policy says enforce and neither a halt nor a pause stands in the way.

        What concerns one worker alone, with old rules or another credential, stands in nobody else's way.
        """
        stopping = [halt for halt in self.halts if halt.reason not in BESIDE]
        return self.mode == "enforce" and not stopping and self.paused is None


@dataclass(frozen=True, slots=True)
class SlotView:
    """One (provider, kind): its counters, how many holds there are, how many audit records wait for the sink.

    ``shut``: what opened its breaker, with that answer, and until when nothing is tried; None while it is closed.
    """

    provider: str
    kind: str
    counters: Mapping[str, int]
    held: int
    audit_pending: int
    shut: tuple[str, str, int] | None = None
