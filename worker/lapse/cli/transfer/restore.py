"""What ``lapse import`` does with an export: look at all of the file, then apply it line by line."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import redis

from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess
from lapse.cli.exit_codes import Code
from lapse.cli.progress import progress
from lapse.cli.transfer.format import BEGINS, Chunk, Counts, Header, checked, chunk_of
from lapse.cli.transfer.load import Load
from lapse.errors import RegistryError


def is_export(file: str) -> bool:
    """Return True if a file, or ``-`` for stdin, begins as an export does; nothing of it is taken."""
    if file == "-":
        stdin: Any = sys.stdin.buffer
        return bool(stdin.peek(len(BEGINS)).startswith(BEGINS))
    with Path(file).open("rb") as opened:
        return opened.read(len(BEGINS)) == BEGINS


def restore(session: Invocation, file: str, *, as_json: bool) -> int:
    """Make a file the registry; see ``Load``.

    Raises:
        Refused: the file is not whole, or the registry not empty.
        RegistryError: the registry was lost half way; the same call goes on there.

    """
    with _readable(file) as lines:
        header, counts = checked(lines)
        lines.seek(0)
        load = Load(session.exact, session.namespace, header)
        after = load.begin()
        try:
            _apply(load, lines, counts, after, quiet=as_json)
            session.run(lambda access: _put_back(access, load))
            load.finish()
        except (RegistryError, redis.RedisError, KeyboardInterrupt):
            output.note(f"The registry is half imported, and halted. To go on: lapse import {file}", output.WARN)
            raise
    _shown(session, header, counts, as_json=as_json)
    return Code.OK


@contextmanager
def _readable(file: str) -> Iterator[Any]:
    """Give the file to be read twice."""
    if file != "-":
        with Path(file).open("rb") as opened:
            yield opened
        return
    with TemporaryFile() as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.seek(0)
        yield copy


def _apply(load: Load, lines: Any, counts: Counts, after: int, *, quiet: bool) -> None:
    read, size = 0, os.fstat(lines.fileno()).st_size

    def chunks() -> Iterator[tuple[int, Chunk]]:
        nonlocal read
        for number, line in enumerate(lines, 1):
            read += len(line)
            if 1 < number <= counts.lines:
                yield number, chunk_of(line, number)

    with progress("importing", size, "lines", quiet=quiet) as advance:
        for number in load.apply(chunks(), after):
            advance(read, number)


async def _put_back(access: RegistryAccess, load: Load) -> None:
    """Let every lease end as it does when its worker is gone: the outcome of what was under way is not known here."""
    while claimed := load.claimed():
        for slot in claimed:
            await access.carrier.carry(
                [access.commands.on_slot("ledger/lua/housekeeping/housekeep", *slot, 0, 500, "", parse=int)]
            )


def _shown(session: Invocation, header: Header, counts: Counts, *, as_json: bool) -> None:
    if as_json:
        output.document({"imported": header.id, "moved": header.moved, **asdict(counts)})
    else:
        output.say(f"{formatting.count(counts.members, 'member')} of {formatting.count(counts.keys, 'key')} imported")
    made = formatting.iso(header.made)
    if header.namespace != session.namespace:
        output.note(f"Objects that carry the stamp of {header.namespace}/{header.epoch} are this registry's too.")
    if header.moved is None:
        output.note(
            f"This is a copy, of {made}: the registry that it was made of goes on. What applications said there since"
            " is not known here: let workers act on one of the two.",
            output.WARN,
        )
    else:
        output.note(f"Moved at {made}: give this registry to applications first, then to workers.")
