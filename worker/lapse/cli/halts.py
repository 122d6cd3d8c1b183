"""What answers a halt: first what loses nothing, then the rest. Sentences and commands. No I/O."""

from collections.abc import Callable, Sequence

from lapse.cli import wording
from lapse.control import Halt
from lapse.guard import STANDING
from lapse.model import from_millis


def answers(halt: Halt) -> Sequence[str]:
    """Return the commands and changes that answer a halt, the one that loses nothing first."""
    if halt.plan:
        return (f"lapse approve {halt.plan}",)
    if halt.reason in STANDING:
        return ("it ends by itself once its cause has ended",)
    return (*_FIRST.get(halt.reason, _nothing)(halt), f'lapse resume {scope(halt)} --reason "..."')


def answer(halt: Halt) -> str:
    """Return the first of them."""
    return answers(halt)[0]


def scope(halt: Halt) -> str:
    """Return what a halt halts, as commands take it."""
    return f"{halt.provider}/{wording.plural(halt.kind)}" + ("" if halt.policy == "*" else f"/{halt.policy}")


def _nothing(_halt: Halt) -> Sequence[str]:
    return ()


def _after_many_absences(halt: Halt) -> Sequence[str]:
    began = from_millis(halt.began or halt.since)
    since = began.isoformat(timespec="seconds") if began else ""
    return (
        f"lapse quarantine undo {wording.plural(halt.kind)} --since {since} --confirm={halt.provider}",
        f"expect_gone = true below [policies.{halt.policy}], if they also go by themselves",
    )


def _after_a_contradiction(halt: Halt) -> Sequence[str]:
    return (f"lapse doctor, until {halt.provider} gives the same answer twice",)


def _after_another_credential(halt: Halt) -> Sequence[str]:
    return (f"give every worker of {halt.provider} a key of the same project: the halt ends by itself",)


_FIRST: dict[str, Callable[[Halt], Sequence[str]]] = {
    "gone_wall": _after_many_absences,
    "inconsistent_absence": _after_a_contradiction,
    "principal_unproven": _after_another_credential,
}
