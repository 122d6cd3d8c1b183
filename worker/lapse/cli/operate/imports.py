"""import: ids that an application had before it had lapse, from a table."""

import asyncio
import json
import os
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

import click

from lapse.cli import formatting, output
from lapse.cli.context import Invocation, with_session
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.operate import rows
from lapse.cli.operate.rows import Row
from lapse.cli.options import KIND, POLICY, json_option
from lapse.cli.progress import Advance, progress
from lapse.cli.transfer.backfill import TOGETHER, Backfilled, Standing, backfill, tell_slots
from lapse.cli.transfer.restore import is_export, restore
from lapse.errors import ConfigError, InvalidResource, RegistryError
from lapse.ledger.due import due_of
from lapse.ledger.partition import Ledger
from lapse.registry import keys, notices
from lapse.registry.commands import Commands, names
from lapse.registry.keys import identifier, name
from lapse.registry.kind_names import singular
from lapse.registry.model import Partition

DAY = 86_400_000
SPANS = {"now": 0, "within a day": DAY, "within 7 days": 7 * DAY, "within 30 days": 30 * DAY, "later": None}
"""When ids would be due, as the summary has it -> milliseconds from now."""
_NAMES, _BOUNDS = list(SPANS), [after for after in SPANS.values() if after is not None]
NEVER = "never"
BAR = 1000
CHOICES = {
    "now": (
        'Last activity is now where the file says none: by a policy with anchor = "last_active_at", nothing is due'
        " before its ttl is over. --last-active created takes the creation instead."
    ),
    "created": (
        "Last activity is the creation where the file says none: what has not been used since then may be due at once."
    ),
}


LEFT = {
    Standing.KNOWN: "registered already, or on an earlier line: left as they are",
    Standing.FORGOTTEN: "left out: forgotten by the application; lapse register brings one back",
    Standing.SETTLED: "left out: deleted or gone, as this registry knows",
}


@dataclass(slots=True)
class Imported:
    """What came of a file.

    Attributes:
        standings: A ``Standing`` -> how many rows.
        refused: Rows that could not be registered.
        line: The last line that is done.
        due: Policy -> when -> how many ids that were not tracked before.

    """

    standings: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    line: int = 0
    due: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def new(self) -> int:
        """How many ids were not tracked before."""
        return self.standings[Standing.NEW]

    @property
    def registered(self) -> int:
        """How many rows name an id that is tracked now."""
        return self.new + self.standings[Standing.KNOWN]

    def as_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        left = {standing.name.lower(): self.standings[standing] for standing in LEFT}
        said = {"registered": self.registered, "new": self.new, **left, "refused": self.refused, "line": self.line}
        return said | {"due": {policy: dict(counts) for policy, counts in self.due.items()}}


@dataclass(slots=True)
class RowBatch:
    """Rows that are stored together."""

    ids: defaultdict[Partition, list[Backfilled]] = field(default_factory=lambda: defaultdict(list))
    size: int = 0

    def add(self, at: Partition, one: Backfilled) -> None:
        """Add a row."""
        self.ids[at].append(one)
        self.size += 1


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--kind", type=KIND, help="The kind of rows that name none.")
@click.option("--policy", type=POLICY, metavar="NAME", help="The policy of rows that name none.")
@click.option(
    "--last-active",
    type=click.Choice(tuple(CHOICES)),
    default="now",
    show_default=True,
    help="When ids were last used that say no last_active_at.",
)
@click.option("--from-line", type=click.IntRange(1), default=1, metavar="N", help="Go on at this line of FILE.")
@click.option("--bad", metavar="FILE", help="Where refused rows go; by default, FILE with .bad behind it.")
@with_session
@json_option
def import_(*, session: Invocation, file: str, last_active: str, from_line: int, bad: str | None, as_json: bool,
            kind: str | None, policy: str | None) -> int:  # fmt: skip
    """Track the ids of a table: those that an application had before it had lapse.

    FILE is CSV with a header, or JSON objects, a line each; - is stdin. Columns: id, kind, policy, provider,
    created_at, last_active_at (seconds, 2026-03-01, or 2026-03-01T12:00:00Z), subject, labels (key=value;key=value).
    What the registry knows stays as it is, so importing twice does no harm; what was forgotten or deleted is left out.
    Rows that cannot be registered go to a file with the reason, and the others are registered.
    FILE may be what `lapse export` wrote: then it becomes this registry, which has to be empty.

    Examples:
      lapse import threads.csv --kind thread --policy chat
      lapse import ids.jsonl --last-active created
      lapse import registry.jsonl

    """
    if is_export(file):
        if given := [name for name, value in (("--kind", kind), ("--policy", policy), ("--bad", bad)) if value]:
            raise Refused(Code.USAGE, f"{file} is an export: it says all of itself, and takes no {given[0]}")
        return restore(session, file, as_json=as_json)
    defaults = {name: value for name, value in (("kind", kind), ("policy", policy)) if value}
    loader = RowLoader(session, defaults, created=last_active == "created")
    done = Imported(line=from_line - 1)
    refused = _place_of_refused(file, bad)
    output.note(CHOICES[last_active], output.DIM)
    try:
        with (
            click.open_file(file, encoding="utf-8-sig") as lines,
            _refusing(refused, go_on=from_line > 1) as refuse,
            progress("importing", 0 if file == "-" else Path(file).stat().st_size, "rows", quiet=as_json) as advance,
        ):
            read = rows.rows(_counted(lines, advance))
            session.run(lambda access: loader.load(access.ledger, read, done, refuse))
    except (RegistryError, Refused, KeyboardInterrupt):
        output.note(f"{file}: done up to line {done.line}; go on with --from-line {done.line + 1}", output.WARN)
        raise
    except UnicodeDecodeError as error:
        raise Refused(Code.PARTIAL, f"{file}: after line {done.line}: no UTF-8: {error.reason}") from None
    _shown(done, as_json=as_json)
    _warn_of_unmanaged(session, loader.partitions)
    if done.refused:
        where = f"{formatting.count(done.refused, 'row')} of {file} refused: see {refused}"
        raise Refused(Code.PARTIAL, where)
    if done.standings and not done.registered:
        raise Refused(Code.PARTIAL, f"{file}: no id is registered")
    return Code.OK


class RowLoader:
    """Registers rows.

    Args:
        session: The policy file, if there is one here: it says when ids are due.
        defaults: Columns of rows that lack them.
        created: Whether last activity is creation where a row says none.

    """

    def __init__(self, session: Invocation, defaults: Mapping[str, str], *, created: bool) -> None:
        self._commands = Commands(session.namespace, session.default_provider)
        self._provider = session.default_provider
        self._defaults = defaults
        self._created = created
        self._rules = {rule.partition: rule for rule in session.config.rules} if session.configured else {}
        self._now = session.view.now()
        self._partitions: dict[tuple[Any, ...], Partition] = {}
        self._told: set[Partition] = set()

    @property
    def partitions(self) -> frozenset[Partition]:
        """Where rows were stored."""
        return frozenset(self._told)

    async def load(
        self, ledger: Ledger, read: Iterable[Row], done: Imported, refuse: Callable[[Row, str], None]
    ) -> None:
        """Register every row after ``done.line``: one batch is stored while the next one is read.

        Raises:
            InvalidResource: a header that this does not know.
            RegistryError: the registry was lost half way; ``done`` says how far it came.

        """
        skipped, last = done.line, done.line
        batch, storing = RowBatch(), None
        for row in read:
            if row.line <= skipped:
                continue
            last = row.line
            try:
                batch.add(*self._backfilled(row))
            except (InvalidResource, ConfigError, TypeError, ValueError) as error:
                refuse(row, str(error))
                done.refused += 1
                continue
            if batch.size == TOGETHER:
                if storing:
                    await storing
                storing = asyncio.create_task(self._store(ledger, batch, done, last))
                await asyncio.sleep(0)  # it is sent before the next rows are read
                batch = RowBatch()
        if storing:
            await storing
        await self._store(ledger, batch, done, last)

    def _backfilled(self, row: Row) -> tuple[Partition, Backfilled]:
        if row.why:
            raise InvalidResource(row.why)
        given = {**self._defaults, **row.given} if self._defaults else row.given
        id_, kind, policy = given.get("id"), given.get("kind"), given.get("policy")
        if not (id_ and kind and policy):
            missing = [what for what in ("id", "kind", "policy") if not given.get(what)]
            raise InvalidResource(f"no {' and no '.join(missing)}")
        at = self._partition(given.get("provider"), kind, policy)
        created, active = rows.times(given.get("created_at"), given.get("last_active_at"))
        if active is None:
            active = self._now if created is None or not self._created else created
        if created is None:
            created = active  # what was used at a time was created by then
        return at, Backfilled(identifier(id_), created, max(created, active), rows.facts_of(given))

    def _partition(self, *named: Any) -> Partition:
        found = self._partitions.get(named)
        if found is None:
            provider, kind, policy = named
            if not (provider or self._provider):
                raise InvalidResource("no provider: fill that column, give --provider, or set LAPSE_PROVIDER")
            found = Partition(self._commands.provider(provider), singular(kind), name(policy, "policy"))
            self._partitions[named] = found
        return found

    async def _store(self, ledger: Ledger, batch: RowBatch, done: Imported, line: int) -> None:
        """Track a batch, whose last line this is, and count what came of it."""
        if batch.size:
            if new := batch.ids.keys() - self._told:
                await tell_slots(ledger, new)
                self._told |= new
            for at, standings in (await backfill(ledger, batch.ids)).items():
                done.standings.update(standings)
                self._count(at, compress(batch.ids[at], (one == Standing.NEW for one in standings)), done)
        done.line = line

    def _count(self, at: Partition, added: Iterable[Backfilled], done: Imported) -> None:
        """Count when the ids that were added are due."""
        counts, rule = done.due.setdefault(str(at), Counter()), self._rules.get(at)
        for (created, active), number in Counter((one.created, one.active) for one in added).items():
            due, _ = due_of({"c": created, "a": active}, rule)
            counts[_when(due, self._now)] += number


def _when(due: int | None, now: int) -> str:
    if due is None:
        return NEVER
    return _NAMES[bisect_left(_BOUNDS, due - now)]


def _counted(lines: Iterable[str], advance: Advance) -> Iterator[str]:
    """Yield lines, and move the bar each BAR of them."""
    read = 0
    for number, line in enumerate(lines):
        if number % BAR == 0:
            advance(read, number)
        read += len(line.encode())
        yield line


def _beside(file: str) -> str:
    return "import.bad" if file == "-" else f"{file}.bad"


def _place_of_refused(file: str, bad: str | None) -> str:
    """Return the file that refused rows go to.

    Raises:
        Refused: it is the table itself, or ``--bad`` names what cannot be made; nothing was begun.

    """
    path = Path(bad or _beside(file))
    if path.exists() and path.samefile("/dev/stdin" if file == "-" else file):
        raise Refused(Code.USAGE, f"refused rows cannot go to {path}, the table itself: give --bad another file")
    if bad and path.is_dir():
        raise Refused(Code.USAGE, f"--bad {bad}: it is a folder")
    if bad and not path.parent.is_dir():
        raise Refused(Code.USAGE, f"--bad {bad}: there is no folder {path.parent}")
    return str(path)


@contextmanager
def _refusing(path: str, *, go_on: bool) -> Iterator[Callable[[Row, str], None]]:
    """Give a way to write refused rows down; the file is made by the first of them, for its owner's eyes."""
    opened: list[Any] = []

    def refuse(row: Row, why: str) -> None:
        said = {"line": row.line, "why": why, "row": dict(row.given)}
        try:
            if not opened:
                how = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if go_on else os.O_TRUNC)
                opened.append(os.fdopen(os.open(path, how, 0o600), "w", buffering=1, encoding="utf-8"))
            opened[0].write(json.dumps(said, ensure_ascii=False, default=str) + "\n")
        except OSError as error:
            raise Refused(Code.PARTIAL, f"line {row.line} is refused, and {path} cannot be written: {error}") from None

    try:
        yield refuse
    finally:
        for file in opened:
            file.close()


def _warn_of_unmanaged(session: Invocation, partitions: Iterable[Partition]) -> None:
    """Say as a registration does which policies no worker knows: nothing deletes what is imported under them."""
    known = names(session.view.published().get("policies"))
    for at in sorted(partitions, key=str):
        if not session.client.hexists(session.key_of(at, keys.RULES), "digest"):
            notices.unmanaged({"provider": at.provider, "kind": at.kind, "policy": at.policy}, known)


def _shown(done: Imported, *, as_json: bool) -> None:
    if as_json:
        output.document(done.as_json())
        return
    output.say(f"{done.registered:,} registered, {done.new:,} new, {done.refused:,} refused")
    for standing, text in LEFT.items():
        if number := done.standings[standing]:
            output.note(f"{number:,} {text}")
    for policy, counts in sorted(done.due.items()):
        when = ", ".join(f"{counts[name]:,} {name}" for name in (*SPANS, NEVER) if counts[name])
        output.say(f"{policy}: due {when}")
