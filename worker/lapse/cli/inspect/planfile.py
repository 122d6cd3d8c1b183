"""``lapse plan -o FILE``: which ids exactly, written down."""

import gzip
import heapq
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, one_provider
from lapse.cli.progress import progress
from lapse.cli.wholefile import whole
from lapse.ledger.children import named_below
from lapse.ledger.partition import Ledger
from lapse.ledger.records import DueId, due_pages
from lapse.policy import Rule
from lapse.policy.preconditions import contained
from lapse.providers.account import Account
from lapse.providers.kinds import KINDS
from lapse.registry.commands import actor
from lapse.registry.model import Resource
from lapse.sweep.companions import PlannedCompanions
from lapse.sweep.plan import Basis, Companion, Doomed, Heading, PlanWriter

RUN = 50_000
"""Ids that are sorted at a time; so many are in memory."""


def write(session: Invocation, rules: Sequence[Rule], file: Path, due: int, *, quiet: bool) -> None:
    """Write the plan of these rules, all of one provider, to a file, whole or not at all.

    Args:
        session: This call's.
        rules: What is planned.
        file: Where; packed if its name ends in .gz.
        due: How many ids it will have, for the bar.
        quiet: Show no bar.

    Raises:
        Refused: the file cannot be written, or the rules are of several providers.

    """
    provider = one_provider(rules)
    account = session.config.accounts[provider]
    with whole(str(file)) as raw, ExitStack() as stack:
        packed = file.suffix == ".gz"
        into = stack.enter_context(gzip.GzipFile("", "wb", 1, raw, 0)) if packed else raw
        show = stack.enter_context(progress("planning", due, quiet=quiet))

        async def work(access: RegistryAccess) -> tuple[str, int, int]:
            plan = PlanWriter(into, await _basis(access, session, provider))
            for rule in rules:
                at, mode = rule.partition, "enforcing" if rule.enforce else "observing"
                found = _shown(due_pages(access.ledger, rule), lambda seen: show(min(plan.size + seen, due)))
                with ExitStack() as runs, PlannedCompanions() as companions:
                    below = Below(access.ledger, rule, account, companions)
                    chosen = await _sorted(below.noted(found), file.parent, runs)
                    plan.part(Heading(at.kind, at.policy, rule.digest, mode), chosen)
                    plan.companions(companions.along())
            return plan.close(), plan.size, plan.along

        hash_, size, along = session.run(work)
    ids = formatting.count(size, "id") + (f" and {along:,} that may go along" if along else "")
    output.note(f"Plan {hash_}, {ids} at {provider}, is in {file}. To delete them:")
    output.note(f"  lapse apply {file}", output.STRONG)


class Below:
    """What the registrations of a policy's due ids say that belongs to these, and goes along by its cascade."""

    def __init__(self, ledger: Ledger, rule: Rule, account: Account, found: PlannedCompanions) -> None:
        self._ledger = ledger
        self._at = rule.partition
        self._kinds = contained(rule.cascade, KINDS[account.type])
        self._found = found

    async def noted(self, pages: AsyncIterator[list[DueId]]) -> AsyncIterator[list[DueId]]:
        """Pass pages on, and note what belongs to their ids."""
        async for page in pages:
            parents = [Resource(self._at.provider, self._at.kind, one.id) for one in page]
            below = await named_below(self._ledger, parents, self._kinds)
            self._found.add(Companion(child.id, child.kind, parent.id) for child, parent in below)
            yield page


async def _basis(access: RegistryAccess, session: Invocation, provider: str) -> Basis:
    return Basis(
        provider=provider,
        place=session.config.accounts[provider].place,
        namespace=session.namespace,
        epoch=session.view.epoch().get("id", ""),
        made_at=await access.control.now(),
        made_by=actor(),
    )


async def _shown(pages: AsyncIterator[list[DueId]], show: Callable[[int], None]) -> AsyncIterator[list[DueId]]:
    """Pass pages on, and say how many ids they had."""
    seen = 0
    async for page in pages:
        seen += len(page)
        show(seen)
        yield page


async def _sorted(pages: AsyncIterator[list[DueId]], folder: Path, runs: ExitStack) -> Iterator[Doomed]:
    """Return ids in the order in which they go, each once; what is more than RUN is sorted in files."""
    files: list[IO[str]] = []
    lines: list[str] = []
    async for page in pages:
        lines += map(_line, page)
        if len(lines) >= RUN:
            files.append(runs.enter_context(_run(sorted(lines), folder)))
            lines.clear()
    return (_read(line) for line, _again in groupby(heapq.merge(sorted(lines), *files)))


def _line(one: DueId) -> str:
    """Return an id as a line; lines have the order of their ids."""
    return f"{one.alone:d} {one.turn:020d} {one.id} {one.due} {one.by}\n"


def _read(line: str) -> Doomed:
    alone, _turn, id_, due, by = line.split()
    return Doomed(id_, int(due), by, alone == "1")


def _run(lines: Iterable[str], folder: Path) -> IO[str]:
    file = TemporaryFile("w+", dir=folder, encoding="ascii")  # noqa: SIM115 - the caller closes it
    file.writelines(lines)
    file.seek(0)
    return file
