"""Policies, times and counts as they are printed. No I/O."""

from collections.abc import Iterable

from lapse import durations
from lapse.metrics.views import PartitionView
from lapse.policy import Keep, Rule, estimate
from lapse.providers.account import Account
from lapse.providers.kinds import KINDS
from lapse.registry.model import from_millis

SINCE = {"created_at": "creation", "last_active_at": "last activity"}


def plural(kind: str) -> str:
    """Return the plural of a kind's name, of one that this version does not know too."""
    return next((kinds[kind].plural for kinds in KINDS.values() if kind in kinds), f"{kind}s")


def count(number: int, one: str, several: str | None = None) -> str:
    """Return a number with its noun: ``1 id``, ``1,284 requests``."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def iso(millis: float | None, timespec: str = "seconds") -> str | None:
    """Return a registry time in milliseconds as ISO 8601."""
    moment = from_millis(millis)
    return moment.isoformat(timespec=timespec) if moment else None


def does(rule: Rule) -> str:
    """Say what a rule deletes and when, and whether it does: one sentence."""
    kinds = plural(rule.partition.kind)
    if rule.orphan:
        said = (
            f"deletes {kinds} that nothing uses, {durations.show(rule.orphan.min_age)} after creation at the earliest,"
            f" once {rule.orphan.seen} complete listings in a row showed them unused"
        )
    else:
        said = f"deletes {kinds} {durations.show(rule.ttl or 0)} after {SINCE[rule.anchor or 'created_at']}"
    if rule.max_age is not None:
        said += f", at the latest {durations.show(rule.max_age)} after creation"
    said += _family(rule)
    if rule.keep:
        said += f", never those {either(_kept(keep) for keep in rule.keep)}"
    return f"{said}; {'enforcing' if rule.enforce else 'observing'}"


def _family(rule: Rule) -> str:
    staying = [f"with a {kind}" for kind, what in _children(rule) if what == "protect"]
    children = going(rule)
    along = f", with their {children} that are ours and that nothing else uses" if children else ""
    return along + (f", never those {either(staying)}" if staying else "")


def going(rule: Rule) -> str:
    """Say what goes along with what a rule deletes: ``files and vector stores``; empty if nothing does."""
    return " and ".join(plural(kind) for kind, what in _children(rule) if what == "delete")


def _children(rule: Rule) -> list[tuple[str, str]]:
    of = rule.partition.kind
    children = {child.kind for kinds in KINDS.values() if of in kinds for child in kinds[of].children}
    return [(kind, what) for kind, what in sorted(rule.cascade.items()) if kind in children]


def pace(rule: Rule) -> str:
    """Say how fast a rule may delete."""
    if rule.max_deletions is None:
        return "any number of deletions"
    return f"at most {rule.max_deletions.amount:,} deletions in {durations.show(rule.max_deletions.window)}"


def requests(rule: Rule, account: Account, view: PartitionView) -> int:
    """Return how many requests deleting what is due takes, as far as that is known."""
    return estimate.requests(rule, KINDS[account.type][rule.partition.kind], view.due, view.extra)


def effort(rule: Rule, account: Account, view: PartitionView) -> str:
    """Say what deleting what is due takes: ``1,284 requests, 21m 24s at 60/m``; an estimate says that it is one."""
    needed = requests(rule, account, view)
    roughly = ("at least " if view.extra is None else "about ") if needed > view.due else ""
    return f"{roughly}{count(needed, 'request')}, {estimate.forecast(needed, account.rate)}"


def either(parts: Iterable[str]) -> str:
    """Join alternatives: ``a, b or c``."""
    *most, last = parts
    return f"{', '.join(most)} or {last}" if most else last


def _kept(keep: Keep) -> str:
    name = [f'named "{keep.name}"'] if keep.name is not None else []
    pairs = [f'with {key} = "{glob}"' for key, glob in sorted(keep.metadata.items())]
    return " and ".join([*name, *pairs])
