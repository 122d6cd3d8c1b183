"""``lapse audit export``: the record of every intent and outcome, without taking anything out of it."""

import contextlib
import json
import re
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import click

from lapse.audit import strictjson
from lapse.cli import output
from lapse.cli.context import Invocation, with_session
from lapse.cli.inspect.verify import verify
from lapse.cli.options import ID, KIND, PAST
from lapse.policy.reload import audit_file
from lapse.registry import keys
from lapse.registry.model import Resource

PAGE = 1000
_SEQ = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
_WITHIN = 20
"""Bits for the second part of a stream id, which counts within a millisecond."""
Printed = defaultdict[tuple[str, str], "array[int]"]
"""The numbers that were printed, in order, by provider and kind: 8 bytes a record."""
SETTLING = {"settled", "corrected", "deleted_by_app"}


@click.group()
def audit() -> None:
    """Read the record of every intent and outcome, and verify it.

    Examples:
      lapse audit export
      lapse audit verify audit.jsonl

    """


audit.add_command(verify)


@audit.command()
@click.argument("kind", type=KIND, required=False)
@click.argument("id_", metavar="[ID]", type=ID, required=False)
@click.option("--since", type=PAST, metavar="TIME", help="Only records since then.")
@with_session
def export(*, session: Invocation, kind: str | None, id_: str | None, since: datetime | None) -> None:
    """Print audit records as JSON lines: the sink's file, then what has not been moved to it yet.

    Nothing is taken out of the registry. With [audit] sink = "stdout", what workers have moved is in their own
    output, and only the rest is here. A record gets its place in a chain and its mac when it is moved: what waits has
    none yet. Verify the sink's own files, not what this prints.

    Examples:
      lapse audit export
      lapse audit export threads --since 24h
      lapse audit export thread thread_abc

    """
    wanted = {"provider": session.given_provider, "kind": kind, "id": id_}
    start = since.timestamp() * 1000 if since else 0.0
    printed: Printed = defaultdict(lambda: array("Q"))
    for record in _moved(session):
        _print(record, wanted, start, printed)
    for record in _waiting(session):
        _print(record, wanted, start, printed)
    if session.config.audit.sink == "stdout":
        output.note('[audit] sink = "stdout": what workers have moved stands in their own output.', output.DIM)


def answer_of(session: Invocation, resource: Resource, files: Sequence[Path] = ()) -> dict[str, Any] | None:
    """Return the last record of an id that says it left the registry, or None; ``line`` says where a file has it.

    Args:
        session: Of this command.
        resource: The id.
        files: Audit files; else the sink's, if it is one that can be read here. What waits in the registry is read too.

    """
    found: list[dict[str, Any]] = []
    written = audit_file(session.config, session.environ)
    for path in files or ([written] if written and written.is_file() else []):
        with path.open(encoding="utf-8", errors="replace") as lines:
            found += [
                record | {"line": f"{path}:{number}"}
                for number, line in enumerate(lines, 1)
                if resource.id in line and (record := _settling(line, resource))
            ]
    rows = _rows(session, keys.slot(session.namespace, resource.provider, resource.kind) + keys.AUDIT)
    waiting = (_settling(fields["e"], resource) for _, fields in rows if resource.id in fields["e"])
    return max([*found, *filter(None, waiting)], key=lambda record: record.get("at", 0), default=None)


def _settling(line: str, resource: Resource) -> dict[str, Any] | None:
    """Return the record of a line if it says that this id left the registry."""
    with contextlib.suppress(ValueError):
        record: Any = json.loads(line)
        if isinstance(record, dict) and record.get("event") in SETTLING:
            at = (record.get("provider"), record.get("kind"), record.get("id"))
            return record if at == astuple(resource) else None
    return None


def _moved(session: Invocation) -> Iterator[dict[str, Any]]:
    """Yield what stands in the sink's file; a line that is cut off is left out."""
    path = audit_file(session.config, session.environ)
    if path is None:
        return
    if not path.exists():
        output.note(f"{path} does not exist here: nothing was moved to it, or it is on the workers' host.", output.WARN)
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            record, why = _read(line)
            if record is not None:
                yield record
            elif line.strip():
                output.note(f"{path}:{number}: {why}; it is left out.", output.WARN)


def _read(text: bytes | str) -> tuple[dict[str, Any] | None, str]:
    """Return a record that is read one way, or None and why there is none."""
    try:
        value = strictjson.loads(text)
    except ValueError as error:
        return None, str(error)
    return (value, "") if isinstance(value, dict) else (None, "it is no record")


def _waiting(session: Invocation) -> Iterator[dict[str, Any]]:
    """Yield what waits in the registry, slot by slot."""
    configured = {(rule.partition.provider, rule.partition.kind) for rule in session.config.rules}
    known = {(provider, kind) for provider, kind in json.loads(session.view.published().get("slots", "[]"))}
    shown = session.subjects_shown
    for provider, kind in sorted(configured | known):
        slot = keys.slot(session.namespace, provider, kind)
        # What applications did gets its number when it is taken to the audit; what is taken there meanwhile, now.
        acts, taken = [fields.get("e", "") for _, fields in _rows(session, slot + keys.ACTS)], set()
        for seq, fields in _rows(session, slot + keys.AUDIT):
            text = fields.get("e", "")
            taken.add(text)
            yield shown.record(_stored(text)) | {"seq": seq}
        yield from (shown.record(_stored(text)) for text in acts if text not in taken)


def _stored(text: str) -> dict[str, Any]:
    record, _why = _read(text)
    return {"garbled": text} if record is None else record


def _rows(session: Invocation, stream: str) -> Iterator[tuple[str, dict[str, str]]]:
    after = "-"
    while rows := cast("list[tuple[str, dict[str, str]]]", session.client.xrange(stream, min=after, count=PAGE)):
        yield from rows
        after = f"({rows[-1][0]}"


def _number(seq: object) -> int | None:
    """Return a stream id as one number, in its order; None for what is none that Redis gave."""
    found = _SEQ.fullmatch(str(seq))
    number = int(found[1]) << _WITHIN | int(found[2]) if found and not int(found[2]) >> _WITHIN else None
    return number if number is not None and number.bit_length() <= 64 else None  # noqa: PLR2004 - as array "Q" holds


def _print(record: dict[str, Any], wanted: dict[str, str | None], start: float, printed: Printed) -> None:
    """Print a record once: one that was moved twice, or moved while this ran, has its number already."""
    seq, before = _number(record.get("seq")), printed[str(record.get("provider")), str(record.get("kind"))]
    if seq is not None:
        place = bisect_left(before, seq)
        if place < len(before) and before[place] == seq:
            return
        before.insert(place, seq)  # at the end, but for a server that took over with a clock behind
    at = record.get("at")
    late = not start or (isinstance(at, int | float) and at >= start)
    if late and all(value is None or record.get(name) == value for name, value in wanted.items()):
        output.records([record])
