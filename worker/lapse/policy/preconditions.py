"""What has to hold of one object for it to be deleted. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lapse.policy import Keep, Rule
from lapse.providers.kinds import Child, Kind
from lapse.providers.outcomes import Outcome, Verdict
from lapse.providers.pagination import Listed

Judge = Callable[[Listed], str | None]


@dataclass(frozen=True, slots=True)
class Preconditions:
    """What one object is deleted under.

    Attributes:
        keep: What protects it; it is read first if there is any, unless reading would keep it alive.
        idle_since: Seconds since 1970. One that the provider saw active after it lives on; None asks nothing.
        resting: True if it has been idle for longer than any work on it can run: no look for such work.
        cancel: Cancel what still runs on it; it is deleted at a later attempt.
        items: False leaves what it contains to the provider.
        judge: Says why the object as it is now lives on, or None. It is read for that.
        whole: Read it in any case: what it says of its children is wanted.

    """

    keep: Sequence[Keep] = ()
    idle_since: float | None = None
    resting: bool = False
    cancel: bool = False
    items: bool = True
    whole: bool = False
    judge: Judge | None = None

    def protects(self, kind: Kind) -> bool:
        """Return True if what an object says of itself can keep it from being deleted for good."""
        return bool(self.keep or self.judge or kind.system)

    def ask(self, kind: Kind) -> bool:
        """Return True if something that the object says decides."""
        works = bool(kind.busy) and not (self.resting and kind.longest_run)
        dated = self.idle_since is not None and kind.active_field is not None
        return kind.witness and bool(self.keep or kind.system or works or dated or self.whole or self.judge)


def active(idle_since: float | None, last_active_at: float | None) -> Verdict | None:
    """Return that an object lives on because the provider saw it active, both in seconds since 1970, or None."""
    if idle_since is None or last_active_at is None or last_active_at <= idle_since:
        return None
    return Verdict(Outcome.ACTIVE, active_at=last_active_at, detail="the provider saw it used since")


def follows(rule: Rule, kind: Kind) -> tuple[Child, ...]:
    """Return the kinds of children about which a policy says more than to leave them; those that protect it first."""
    said = [child for child in kind.children if rule.cascade.get(child.kind, "leave") != "leave"]
    return tuple(sorted(said, key=lambda child: rule.cascade[child.kind] != "protect"))


def contained(cascade: Mapping[str, str], kinds: Mapping[str, Kind]) -> dict[str, frozenset[str]]:
    """Return of each kind the kinds of what belongs to its objects and goes with them; what uses them is none of it."""
    return {
        name: frozenset(
            child.kind for child in kind.children if cascade.get(child.kind) == "delete" and not child.users
        )
        for name, kind in kinds.items()
    }


def named_inside(rule: Rule, kind: Kind) -> bool:
    """Return True if an object has to be read to know what follows it."""
    return any(child.field for child in follows(rule, kind))


def preconditions_of(rule: Rule, kind: Kind, by: str, now: int) -> Preconditions:
    """Return what a resource that is due by a rule is deleted under; ``now`` is registry milliseconds.

    What its ttl from last activity made due has been idle since, if the application tells of its use. What is due for
    any other reason may be in use at this moment.
    """
    timed = by == "ttl" and rule.ttl is not None
    idle = rule.anchor == "last_active_at"
    ttl = rule.ttl or 0
    long = kind.longest_run is not None and ttl >= kind.longest_run
    return Preconditions(
        keep=rule.keep,
        idle_since=now / 1000 - ttl if timed and idle and kind.active_field else None,
        resting=timed and long and (kind.runs is None or (idle and not rule.touches_stated)),
        cancel=rule.cancel,
        items=rule.cascade.get("conversation_item", "delete") == "delete",
        whole=named_inside(rule, kind),
    )
