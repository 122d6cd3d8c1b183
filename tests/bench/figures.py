"""One measured figure: its rounds, its median and spread, and the target it is held to."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """A name, the value of each round, and a target: ("<=", 400), (">=", 2.0), or None for a number without one."""

    name: str
    rounds: Sequence[float]
    target: tuple[str, float] | None

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        sign, bound = self.target
        return self.value <= bound if sign == "<=" else self.value >= bound

    def as_json(self) -> dict[str, object]:
        """Return the figure as bench-results.json holds it."""
        target = f"{self.target[0]} {self.target[1]:g}" if self.target else None
        return {"name": self.name, "value": self.value, "target": target, "ok": self.ok}


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float], *target: str | float) -> Figure:
    """Return ours to theirs, round by round: both sides of one round met the same machine."""
    sign, bound = target
    return Figure(name, [one / other for one, other in zip(ours, theirs, strict=True)], (str(sign), float(bound)))


def shown(value: float) -> str:
    """Return a number with the digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
