"""What one sweep did, as it is logged and counted."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from lapse.registry.model import Partition


@dataclass(slots=True)
class Report:
    """What one sweep did.

    ``result``: completed, budget_exhausted, limited, observed, halted, paused, stopped, refused (other rules are in
    force), divergence (newer rules are), principal_unproven (this worker's credential sees another place), unproven or
    breaker. ``more``: ids were due when it ended.
    """

    partition: Partition
    result: str = "completed"
    detail: str = ""
    more: bool = False
    due: int = 0
    registered: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)

    def as_log(self) -> dict[str, Any]:
        """Return the fields of the sweep's one log line."""
        return {
            **asdict(self.partition),
            "result": self.result,
            "due": self.due,
            "registered": self.registered,
            "more": self.more,
            "seconds": round(self.seconds, 3),
            **({"detail": self.detail} if self.detail else {}),
            **{name: n for name, n in sorted(self.outcomes.items()) if n},
        }
