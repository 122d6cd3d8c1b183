"""Commands that documents and files show, held against the command line."""

import re
import shlex
from collections.abc import Iterator, Sequence

import click

from lapse.cli.main import lapse

CELERY = {
    "worker": {"--loglevel", "--concurrency", "--pool", "--beat", "-l", "-c", "-P", "-B"},
    "beat": {"--loglevel", "-l"},
}
"""The options of Celery that a document may show for each of its two programs."""


def console(text: str) -> Iterator[str]:
    """Yield the commands of a document's console blocks, each on one line."""
    for block in re.findall(r"^ *```console[^\n]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        joined = re.sub(r" *\\\n\s*", " ", block)
        yield from (line.strip()[2:] for line in joined.splitlines() if line.strip().startswith("$ "))


def check(words: Sequence[str]) -> None:
    """Fail unless these words are a command of lapse, or of Celery on lapse's application, with options it has."""
    program, *rest = words
    if program == "celery":
        assert ["-A", "lapse.app"] == rest[:2], words
        rest = [word for word in rest if word not in {"-q", "--quiet"}]
        options = {word.partition("=")[0] for word in rest[3:] if word.startswith("-")}
        assert options <= CELERY[rest[2]], words
        return
    assert "lapse" == program, words
    found: click.Command | None = lapse
    while rest and isinstance(found, click.Group) and not rest[0].startswith("-"):
        _name, found, rest = found.resolve_command(click.Context(found), rest)
    assert found, words
    found.make_parser(click.Context(found)).parse_args(list(rest))


def is_ours(command: str) -> bool:
    """Say whether a line runs lapse or Celery; variables before it aside."""
    return bool(re.match(r"(?:[A-Z_]+=\S+ +)*(?:lapse|celery) ", command + " "))


def words(command: str) -> list[str]:
    """Return the words of a line without the variables before it and what comes after a pipe."""
    parts = shlex.split(re.sub(r"\s[|>].*$", "", command), comments=True)
    return [part for n, part in enumerate(parts) if not (re.fullmatch(r"[A-Z_]+=.*", part) and n == 0)]
