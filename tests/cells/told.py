"""What a story of the cells is: what is there, what calls a script, and how it has to end."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from cells.reached import Reached

LONG_AGO = 1_600_000_000


@dataclass
class Told:
    """What a story is about: which ids have to be gone in the end, which have to live, and what else has to be so."""

    act: Callable[[], Awaitable[str | None]]
    gone: Mapping[str, list[str]] = field(default_factory=dict)
    kept: Mapping[str, list[str]] = field(default_factory=dict)
    then: Callable[[], Awaitable[object]] | None = None


Story = Callable[[Reached], Awaitable[Told]]
