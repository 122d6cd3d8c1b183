"""export: everything that the registry knows, in one file, to be imported elsewhere."""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click

from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.options import SPAN, config_option
from lapse.cli.progress import progress
from lapse.cli.transfer.dump import Dump
from lapse.cli.transfer.format import Counts, Header, written
from lapse.cli.wholefile import whole
from lapse.ledger.reasons import HaltReason
from lapse.registry import keys

AGAIN = 0.2
"""Seconds between two looks at what is in flight."""


@contextmanager
def moved(session: Invocation, slots: Sequence[tuple[str, str]], target: str | None, patience: float) -> Iterator[None]:
    """Halt everything as moved, unless there is no target; take that back if what is done under it fails.

    Raises:
        Refused: deletions in flight did not end in time, or the registry was moved before.

    """
    if target is None:
        yield
        return
    before = session.run(lambda access: access.control.moved())
    if before not in {None, target}:
        raise Refused(Code.HALTED, f"this registry was moved to {before} before")
    try:
        session.run(lambda access: access.control.move(slots, target))
        _wait(session, slots, patience)
        yield
    except BaseException:
        if before is None:
            _take_back(session, slots, target)
        raise


def _wait(session: Invocation, slots: Sequence[tuple[str, str]], patience: float) -> None:
    deadline, told = time.monotonic() + patience, False
    while flying := _in_flight(session, slots):
        if time.monotonic() > deadline:
            waited = f"{formatting.count(flying, 'deletion')} did not come to an end within {patience:.0f} s"
            raise Refused(Code.TEMPORARY, f"{waited}: nothing was exported; --wait gives them longer")
        if not told:
            output.note(f"{formatting.count(flying, 'deletion')} in flight: waiting for their end.", output.DIM)
            told = True
        time.sleep(AGAIN)


def _in_flight(session: Invocation, slots: Sequence[tuple[str, str]]) -> int:
    """Return how many ids are leased: a lease that ran out is nobody's."""
    client: Any = session.exact
    now, found = session.view.now(), 0
    for slot in slots:
        prefix = keys.slot(session.namespace, *slot)
        for policy in client.smembers(prefix + keys.POLICIES):
            found += client.zcount(f"{prefix}{policy}:{keys.CLAIMS}", now, "+inf")
    return found


def _take_back(session: Invocation, slots: Sequence[tuple[str, str]], target: str) -> None:
    async def lift(access: RegistryAccess) -> None:
        for halt in await access.control.halts(slots):
            if halt.reason == HaltReason.MOVED:
                await access.control.lift(halt, "the export did not come to its end")
        await access.control.accept(HaltReason.MOVED)

    try:
        session.run(lift)
    except Exception:  # noqa: BLE001 - whatever it is, the first error is the one to tell
        output.note(
            f"This registry is halted as moved to {target}, and nothing was moved. Export again, or go on with it:"
            f' lapse resume --reason "..." --moved-to {target}',
            output.WARN,
        )


WAIT = 300.0


@click.command()
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, allow_dash=True), default="-", metavar="FILE", help="Else stdout."
)
@click.option("--move", is_flag=True, help="Halt this registry: what is in the file is decided about elsewhere.")
@click.option("--to", "target", metavar="NAME", help="With --move: where to, in your words; `resume` has to name it.")
@click.option("--wait", type=SPAN, default=WAIT, help="With --move: how long for deletions in flight; 5m.")
@config_option
def export(*, out: str, move: bool, target: str | None, wait: float, config: str | None) -> int:
    """Write everything that the registry knows into a file, for `lapse import` into an empty one.

    Without --move this is a copy: the registry goes on, and so do its workers. With --move it is halted, deletions in
    flight are waited for, and the file says that it is the registry now. Stop applications meanwhile: what they say
    after their ids were read is not in the file.

    Examples:
      lapse export -o registry.jsonl
      lapse export --move --to redis-b -o registry.jsonl

    """
    session = Invocation(config)
    if move != (target is not None):
        raise Refused(Code.USAGE, "--move and --to NAME go together: the halt says where everything was moved to")
    if out != "-" and Path(out).exists():
        raise Refused(
            Code.USAGE, f"{out} is there already: it may be all that is left of a registry; name another file"
        )
    if "importing" in session.view.epoch():
        raise Refused(Code.USAGE, "this registry is half imported: let its import come to its end first")
    dump = Dump(session.exact, session.namespace, _policies(session))
    with moved(session, dump.slots, target, wait), whole(out) as file:
        counts = _write(session, dump, file, target)
    output.note(
        f"{formatting.count(counts.members, 'member')} of {formatting.count(counts.keys, 'key')} exported, sha256"
        f" {counts.sha256}"
    )
    if target is not None:
        output.note(f"This registry is halted: moved to {target}. Import the file there, and give it to applications.")
    return Code.OK


def _policies(session: Invocation) -> dict[tuple[str, str], set[str]]:
    """Return the policies that the policy file names, by (provider, kind)."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in session.config.rules if session.configured else ():
        at = rule.partition
        found.setdefault((at.provider, at.kind), set()).update({at.policy, *rule.formerly})
    return found


def _write(session: Invocation, dump: Dump, file: BinaryIO, target: str | None) -> Counts:
    epoch, made = session.view.epoch().get("id"), session.view.now()
    header = Header(secrets.token_hex(8), session.namespace, epoch, dump.slots, made, target)
    with progress("exporting", dump.size(), "members") as advance:
        for line, counts in written(header, dump.chunks()):
            file.write(line)
            advance(counts.members)
    return counts
