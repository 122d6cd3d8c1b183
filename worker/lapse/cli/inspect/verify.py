"""``lapse audit verify``: whether audit files are what was written into them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from lapse.audit.chain import Seal, Tail, open_seal
from lapse.audit.verify import MOST, NOWHERE, Chain, ChainVerdict, Place, Verification, Wrong
from lapse.cli import formatting, output
from lapse.cli.context import Invocation
from lapse.cli.exit_codes import Code
from lapse.cli.options import FILE, Parsed, config_option, json_option
from lapse.errors import ConfigError

SHOWN = 10


def _end(text: str) -> Tail:
    """Return what this command printed of a chain's end."""
    tail = Tail.parse(text)
    if tail is None:
        raise ValueError(f"{text!r} is no end of a chain: copy it from what an earlier call printed")
    return tail


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option(
    "--key-file", "key_files", metavar="PATH", multiple=True, help="The key; also an old one. Else the policy file's."
)
@click.option(
    "--expect", "expected", type=Parsed("end", _end), multiple=True, help="An end that was printed before: not cut off?"
)
@json_option
@config_option
def verify(
    *,
    files: tuple[Path, ...],
    key_files: tuple[str, ...],
    expected: tuple[Tail, ...],
    as_json: bool,
    config: str | None,
) -> int:
    """Verify that audit files are what workers wrote: nothing altered, taken out, put in or cut off.

    Give all files of all hosts, rotated ones too (.gz as well), in any order. It exits with 5 and names the first
    line that is wrong: also one that belongs to no chain, and one in which two readers of JSON could read two things.
    It needs neither Redis nor a policy file. Lines cut off the end show only where they are
    expected: keep the end that is printed for each chain somewhere else, and give it with --expect the next time.

    Examples:
      lapse audit verify audit.jsonl
      lapse audit verify audit.jsonl --json

    """
    verification = Verification(_seals(key_files, config), expected)
    try:
        verdict = verification.verify(files)
    except (OSError, EOFError) as error:
        raise ConfigError(f"{getattr(error, 'filename', None) or 'a file'} cannot be read: {error}") from None
    if as_json:
        output.document(_described(verdict, files))
    else:
        _say(verdict, files)
    return Code.PARTIAL if verdict.wrong else Code.OK


def _seals(key_files: Sequence[str], config: str | None) -> list[Seal]:
    session = Invocation(config)
    if not key_files and (config is not None or session.configured):
        named = session.config.audit.key_file
        key_files = [named] if named else []
    return [open_seal(name) for name in key_files]


def _say(verdict: ChainVerdict, files: Sequence[Path]) -> None:
    for chain in verdict.chains:
        provider, kind, epoch, _seq, key = chain.name.split("/")
        sealed = "no key" if key == "sha256" else f"key {key}"
        output.say(
            f"{provider}/{kind}: lines {chain.first:,} to {chain.last:,}, {_time(chain.since)} to "
            f"{_time(chain.until)}, registry {epoch}, {sealed}"
        )
        output.say(f"  --expect {chain.tail}", output.DIM)
    for count, what in (
        (verdict.unsealed, "that no chain vouches for"),
        (verdict.cut, "cut off by a crash, with their whole elsewhere"),
        (verdict.other, f"of other output, the first at {_at(verdict.first_other, files)}"),
    ):
        if count:
            output.note(f"{formatting.count(count, 'line')} {what}.", output.DIM)
    for wrong in verdict.wrong[:SHOWN]:
        output.say(f"{_where(wrong, files)}: {wrong.what}", output.BAD)
    if len(verdict.wrong) > SHOWN:
        least = "at least " if len(verdict.wrong) == MOST else ""
        output.say(f"and {least}{len(verdict.wrong) - SHOWN:,} more", output.BAD)
    if not verdict.wrong:
        whole = f"{formatting.count(sum(chain.lines for chain in verdict.chains), 'line')} in"
        output.note(f"{whole} {formatting.count(len(verdict.chains), 'chain')}: all as they were written.", output.GOOD)


def _where(wrong: Wrong, files: Sequence[Path]) -> str:
    return "the end" if wrong.place == NOWHERE else _at(wrong.place, files)


def _at(place: Place | None, files: Sequence[Path]) -> str:
    return f"{files[place.file]}:{place.line}" if place else ""


def _time(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _described(verdict: ChainVerdict, files: Sequence[Path]) -> dict[str, Any]:
    return {
        "ok": not verdict.wrong,
        "chains": [_chain(chain) for chain in verdict.chains],
        "unsealed": verdict.unsealed,
        "cut": verdict.cut,
        "other": verdict.other,
        "first_other": _at(verdict.first_other, files) or None,
        "wrong": [
            {
                "file": None if one.place == NOWHERE else str(files[one.place.file]),
                "line": one.place.line or None,
                "what": one.what,
            }
            for one in verdict.wrong
        ],
    }


def _chain(chain: Chain) -> dict[str, Any]:
    provider, kind, epoch, _seq, key = chain.name.split("/")
    return {
        "chain": chain.name,
        "provider": provider,
        "kind": kind,
        "registry": epoch,
        "key": key,
        "first": chain.first,
        "last": chain.last,
        "lines": chain.lines,
        "repeated": chain.repeated,
        "from": _time(chain.since),
        "to": _time(chain.until),
        "after": str(chain.after) if chain.after else None,
        "end": str(chain.tail),
    }
