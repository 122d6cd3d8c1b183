"""What waits for somebody, and what is good to know: each with the command to type next. No I/O."""

from collections.abc import Iterator
from dataclasses import dataclass

from lapse.cli import formatting
from lapse.cli.inspect.page.meanings import MEANINGS, UNKNOWN
from lapse.cli.inspect.page.reading import PageReading, RegistryReading
from lapse.cli.inspect.reasons import stopping, unpause
from lapse.cli.inspect.status import PolicyStanding
from lapse.cli.operate.remedies import told, where
from lapse.ledger.halts import Halt
from lapse.ledger.reasons import BESIDE, OF_ALL
from lapse.metrics import causes
from lapse.moments import next_try
from lapse.registry.model import Partition

WAITS, KNOW = "bad", "warn"
START = "  celery -A lapse.app worker --beat"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing that somebody should look at.

    Attributes:
        level: ``WAITS`` for an operator, or is good to ``KNOW``.
        title: What is so.
        body: Sentences; one that begins with a space is a command.
        since: Since when, in registry milliseconds, or None.
        scope: What it is about: a provider, or with its kind, or with its policy too; empty: everything.

    """

    level: str
    title: str
    body: tuple[str, ...] = ()
    since: int | None = None
    scope: str = ""

    def concerns(self, partition: Partition) -> bool:
        """Return True if it is about this partition too."""
        return not self.scope or f"{partition}/".startswith(f"{self.scope}/")


def notices(reading: PageReading) -> list[Notice]:
    """Return everything that somebody should look at, what waits for an operator first."""
    found = [] if reading.sound else [Notice(WAITS, "The policy file on disk is not in use", _INVALID)]
    if reading.registry is None:
        return [Notice(WAITS, "The registry does not answer", _AWAY), *found]
    found += [*_halts(reading.registry), *_pauses(reading.registry), *_held_back(reading.registry)]
    found += [note for one in reading.registry.standings for note in _of_policy(one)]
    found += [*_workers(reading, reading.registry), *_waits_for_workers(reading.registry), *_erasures(reading.registry)]
    return sorted(found, key=lambda one: one.level != WAITS)


_INVALID = ("The last valid version goes on. What is wrong with it:", "  lapse check-config")
_AWAY = (
    "Nothing is deleted while it is away, and nothing of what it holds is known here. What this host can say of it:",
    "  lapse doctor",
)


def _halts(found: RegistryReading) -> Iterator[Notice]:
    seen: set[tuple[str, ...]] = set()
    for one in found.standings:
        for halt in one.view.halts if one.rule else ():
            at = () if halt.reason in OF_ALL else (halt.provider, halt.kind, halt.policy)
            if (key := (*at, halt.reason)) not in seen:
                seen.add(key)
                yield _halt(halt)


def _halt(halt: Halt) -> Notice:
    beside = halt.reason in BESIDE
    what = "is not swept by one of the workers" if beside else "is halted"
    scope = "" if halt.reason in OF_ALL else where(halt)
    body = (_sentence(MEANINGS.get(halt.reason, UNKNOWN)), *told(halt))
    return Notice(
        KNOW if beside else WAITS, f"{scope or 'Everything'} {what}: `{halt.reason}`", body, halt.since, scope
    )


def _pauses(found: RegistryReading) -> Iterator[Notice]:
    for scope, since in sorted(found.pauses.items()):
        yield Notice(
            KNOW,
            f"{'Everything' if scope == '*' else scope} is paused",
            ("An operator said so; who and why stands in the audit. To go on:", f"  {unpause(scope)}"),
            since,
            "" if scope == "*" else scope,
        )


def _held_back(found: RegistryReading) -> Iterator[Notice]:
    """Say which providers get no requests, and which sweeps fail again and again."""
    for name, flow in found.flows.items():
        if said := causes.breaker(name, flow, found.now):
            yield Notice(WAITS, "Requests are held back", (f"{said}.", '  lapse resume --reason "..."'), scope=name)
        if said := causes.waits(name, flow, found.now):
            yield Notice(
                KNOW, f"{name} asked for a pause", (f"{said}.", f"  lapse resume --provider {name}"), scope=name
            )
    for slot in found.slots:
        if slot.shut:
            why, _answer, until = slot.shut
            said = f"Breaker open ({why}): all ids get the same answer; one is tried again"
            yield Notice(
                WAITS,
                f"Requests of {slot.provider}/{slot.kind} are held back",
                (f"{said} {next_try(until, found.now)}.", f"  lapse resume --provider {slot.provider}"),
                scope=f"{slot.provider}/{slot.kind}",
            )
    for row in found.failing:
        body = (f"{row.told(found.now)}.", "  lapse status")
        yield Notice(WAITS, "Sweeps end badly again and again", body, scope=str(row.partition))


def _of_policy(one: PolicyStanding) -> Iterator[Notice]:
    view, name = one.view, str(one.view.partition)
    if one.rule is None:
        held = formatting.count(view.registered, "id")
        what = f"{held} under a policy that the file does not have: nothing deletes them."
        yield Notice(KNOW, f"{name} is unmanaged", (what,), scope=name)
    elif view.quarantined:
        said = "The provider answered what nobody can act on by itself. Which they are, and what was answered:"
        yield Notice(
            WAITS,
            f"{name}: {formatting.count(view.quarantined, 'id')} in quarantine",
            (said, f"  lapse quarantine list {formatting.plural(view.partition.kind)}"),
            scope=name,
        )


def _workers(reading: PageReading, found: RegistryReading) -> Iterator[Notice]:
    beat, tick = found.beat, found.tick
    if found.workers is None:
        yield Notice(WAITS, "No worker has been here yet", ("Nothing is deleted without one. To start one:", START))
        return
    for title, (passed, text) in (("Beat is silent", beat), ("No worker takes what beat sends", tick)):
        if not passed:
            yield Notice(WAITS, title, (_sentence(text), "  lapse doctor"))
            break
    if found.gone:
        yield Notice(KNOW, "Workers are gone", tuple(f"{said}." for said in found.gone))
    if found.workers[1] != reading.config.hash:
        said = f"Workers use version {found.workers[1]} of the policy file, and here it is {reading.config.hash}."
        yield Notice(KNOW, "Workers have another policy file", (said, "  lapse doctor"))


def _waits_for_workers(found: RegistryReading) -> Iterator[Notice]:
    for row in found.indexing:
        done = f"{row.indexed:,} of {row.ids:,} touched ids are indexed by their creation"
        body = (f"{done}; until all are, nothing is deleted there.",)
        yield Notice(KNOW, f"{row.partition} is being indexed", body, scope=str(row.partition))
    known = found.subjects
    if not known.whole:
        said = f"{known.looked:,} of {known.facts:,} older registrations are indexed; workers go on."
        yield Notice(KNOW, "Subjects are being indexed", (said,))
    if not any(one.view.registered for one in found.standings):
        yield Notice(KNOW, "Nothing is registered", ("Applications register what they create, with `lapse.track`.",))
    for slot in found.strange:
        said = f"{slot.held:,} held there; the policy file has no provider of that name."
        at = f"{slot.provider}/{slot.kind}"
        yield Notice(KNOW, f"{at} is unknown", (said,), scope=at)


def _erasures(found: RegistryReading) -> Iterator[Notice]:
    standing = found.erasures
    if standing.open or standing.asked:
        level = WAITS if standing.urgent(found.now) else KNOW
        body = (_sentence(standing.told(found.now)), "  lapse erase list")
        yield Notice(level, "Requests to erase a subject are open", body)


def _sentence(text: str) -> str:
    return f"{capital(text)}."


def capital(text: str) -> str:
    """Return a text as it begins a sentence."""
    return f"{text[:1].upper()}{text[1:]}"


def stopped(one: PolicyStanding) -> bool:
    """Return True if a policy deletes nothing until somebody says so."""
    return bool(stopping(one.view)) or one.view.paused is not None
