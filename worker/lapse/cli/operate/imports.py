"""import: ids that an application had before it had lapse, from a table."""

import json
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from lapse import Registry
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, with_session
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.operate import rows
from lapse.cli.operate.rows import Row
from lapse.cli.options import KIND, json_option
from lapse.cli.transfer.restore import is_export, restore
from lapse.errors import ConfigError, InvalidResource, RegistryError
from lapse.ledger.due import due_of
from lapse.policy import Rule
from lapse.registry.commands import BULK, Commands
from lapse.registry.facts import Registration
from lapse.registry.model import Resource

DAY = 86_400_000
SPANS = {"now": 0, "within a day": DAY, "within 7 days": 7 * DAY, "within 30 days": 30 * DAY, "later": None}
"""When ids would be due, as the summary has it -> milliseconds from now."""
_NAMES, _BOUNDS = list(SPANS), [after for after in SPANS.values() if after is not None]
NEVER = "never"
CHOICES = {
    "now": (
        'Last activity is now where the file says none: by a policy with anchor = "last_active_at", nothing is due'
        " before its ttl is over. --last-active created takes the creation instead."
    ),
    "created": (
        "Last activity is the creation where the file says none: what has not been used since then may be due at once."
    ),
}


@dataclass(slots=True)
class Imported:
    """What came of a file.

    Attributes:
        registered: Rows registered.
        new: How many of their ids were not tracked before.
        refused: Rows that could not be.
        line: The last line that is done.
        due: Policy -> when -> how many ids.

    """

    registered: int = 0
    new: int = 0
    refused: int = 0
    line: int = 0
    due: dict[str, Counter[str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        due = {policy: dict(counts) for policy, counts in self.due.items()}
        return {"registered": self.registered, "new": self.new, "refused": self.refused, "line": self.line, "due": due}


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--kind", type=KIND, help="The kind of rows that name none.")
@click.option("--policy", metavar="NAME", help="The policy of rows that name none.")
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
    Importing twice does no harm. Rows that cannot be registered go to a file with the reason, and the others are
    registered. FILE may be what `lapse export` wrote: then it becomes this registry, which has to be empty.

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
    provider = session.default_provider
    table = RowLoader(session, Commands(session.namespace, provider), defaults, created=last_active == "created")
    done = Imported(line=from_line - 1)
    output.note(CHOICES[last_active], output.DIM)
    size = 0 if file == "-" else Path(file).stat().st_size
    try:
        with (
            click.open_file(file, encoding="utf-8-sig") as lines,
            _refusing(bad or _beside(file), go_on=from_line > 1) as refuse,
        ):
            table.load(session.registry_of(provider), lines, size, done, refuse)
    except (RegistryError, KeyboardInterrupt):
        output.note(f"{file}: done up to line {done.line}; go on with --from-line {done.line + 1}", output.WARN)
        raise
    except UnicodeDecodeError as error:
        raise Refused(Code.PARTIAL, f"{file}: after line {done.line}: no UTF-8: {error.reason}") from None
    _shown(done, as_json=as_json)
    if done.refused:
        where = f"{formatting.count(done.refused, 'row')} of {file} refused: see {bad or _beside(file)}"
        raise Refused(Code.PARTIAL if done.registered else Code.UNEXPECTED, where)
    return Code.OK


class RowLoader:
    """Registers rows.

    Args:
        session: The policy file, if there is one here: it says when ids are due.
        checker: What a row is checked with before it is sent with others.
        defaults: Columns of rows that lack them.
        created: Whether last activity is creation where a row says none.

    """

    def __init__(self, session: Invocation, checker: Commands, defaults: Mapping[str, str], *, created: bool) -> None:
        self._checker = checker
        self._defaults = defaults
        self._created = created
        self._rules = {_named(rule): rule for rule in session.config.rules} if session.configured else {}
        self._now = session.view.now()

    def load(
        self,
        registry: Registry,
        lines: Iterable[str],
        size: int,
        done: Imported,
        refuse: Callable[[Row, str], None],
    ) -> None:
        """Register every row after ``done.line``, BULK at a time.

        Raises:
            InvalidResource: a header that this does not know.
            RegistryError: the registry was lost half way; ``done`` says how far it came.

        """
        read, last, waiting, skipped = 0, 0, dict[Resource, Registration](), done.line

        def counted() -> Iterable[str]:
            nonlocal read
            for line in lines:
                read += len(line)
                yield line

        with output.progress("importing", size) as advance:
            for row in rows.rows(counted()):
                last = row.line
                if last <= skipped:
                    continue
                try:
                    registration = self._registration(row)
                except (InvalidResource, ConfigError, TypeError, ValueError) as error:
                    refuse(row, str(error))
                    done.refused += 1
                    continue
                waiting[registration.resource] = registration
                self._count(registration, done)
                if len(waiting) >= BULK:
                    _register(registry, waiting, done, row.line)
                    advance(read)
            _register(registry, waiting, done, max(done.line, last))

    def _registration(self, row: Row) -> Registration:
        if row.why:
            raise InvalidResource(row.why)
        given = {**self._defaults, **row.given}
        if missing := [name for name in ("id", "kind", "policy") if not given.get(name)]:
            raise InvalidResource(f"no {' and no '.join(missing)}")
        for name in rows.TIMES:
            if given.get(name) is not None:
                given[name] = rows.moment(given[name])
        if "labels" in given:
            given["labels"] = rows.labels(given["labels"])
        if self._created and "created_at" in given:
            given.setdefault("last_active_at", given["created_at"])
        return self._checker.registration(**given)

    def _count(self, one: Registration, done: Imported) -> None:
        created = one.facts.get("created", self._now)
        record = {"c": created, "a": max(one.facts.get("active", self._now), created)}
        named = (one.resource.provider, one.resource.kind, one.policy)
        due, _ = due_of(record, self._rules.get(named))
        done.due.setdefault("/".join(named), Counter())[_when(due, self._now)] += 1


def _named(rule: Rule) -> tuple[str, str, str]:
    return rule.partition.provider, rule.partition.kind, rule.partition.policy


def _when(due: int | None, now: int) -> str:
    if due is None:
        return NEVER
    return _NAMES[bisect_left(_BOUNDS, due - now)]


def _register(registry: Registry, waiting: dict[Resource, Registration], done: Imported, line: int) -> None:
    if waiting:
        came = registry.say(registry.protocol.register_many(waiting.values()))
        done.registered += came.registered
        done.new += came.new
        waiting.clear()
    done.line = line


def _beside(file: str) -> str:
    return "import.bad" if file == "-" else f"{file}.bad"


@contextmanager
def _refusing(path: str, *, go_on: bool) -> Iterator[Callable[[Row, str], None]]:
    """Give a way to write refused rows down; the file is made by the first of them, for its owner's eyes."""
    opened: list[Any] = []

    def refuse(row: Row, why: str) -> None:
        if not opened:
            how = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if go_on else os.O_TRUNC)
            opened.append(os.fdopen(os.open(path, how, 0o600), "w", encoding="utf-8"))
        said = {"line": row.line, "why": why, "row": dict(row.given)}
        opened[0].write(json.dumps(said, ensure_ascii=False, default=str) + "\n")

    try:
        yield refuse
    finally:
        for file in opened:
            file.close()


def _shown(done: Imported, *, as_json: bool) -> None:
    if as_json:
        output.document(done.as_json())
        return
    output.say(f"{done.registered:,} registered, {done.new:,} new, {done.refused:,} refused")
    for policy, counts in sorted(done.due.items()):
        when = ", ".join(f"{counts[name]:,} {name}" for name in (*SPANS, NEVER) if counts[name])
        output.say(f"{policy}: due {when}")
