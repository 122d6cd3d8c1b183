"""export: everything that the registry knows, in one file, to be imported elsewhere."""

import secrets
from pathlib import Path
from typing import BinaryIO

import click

from lapse.cli import formatting, output
from lapse.cli.context import Invocation
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.options import SPAN, config_option
from lapse.cli.progress import progress
from lapse.cli.transfer.dump import Dump
from lapse.cli.transfer.format import Counts, Header, written
from lapse.cli.transfer.moving import moved
from lapse.cli.wholefile import whole

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
