"""``lapse docs``: the documents of this version, by page or by word."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import PurePosixPath

import click

from lapse.cli import output
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.inspect.manual import DocumentPage, Manual, manual, plain
from lapse.errors import ConfigError

SITE = "LAPSE_DOCS_URL"
WIDEST = 100
COMMANDS = "docs/reference/command-line.md"


@click.command()
@click.argument("words", metavar="[WORD]...", nargs=-1)
@click.option("--web", is_flag=True, help=f"Open the page of the site that {SITE} names.")
def docs(*, words: tuple[str, ...], web: bool) -> None:
    """Show the documents of this version: a page, or what a word means.

    WORD is a page's name, a command, a key of the policy file, a metric, an alert, a log event, an audit record, a
    guard, or a word of the glossary. Without one it lists the pages. On a terminal it opens your pager.

    Examples:
      lapse docs
      lapse docs start
      lapse docs parked gone_wall
      lapse docs LapseHalted

    """
    book = manual()
    asked = [" ".join(words)] if plain(" ".join(words)) in book.words else list(words)
    if web:
        _open(book, asked)
    else:
        _page(_list(book) if not asked else "\n".join(_about(book, word) for word in asked))


def tell_words(words: Iterable[str]) -> None:
    """Say at the end of what was printed, on a terminal, how to read what these words mean, as far as pages say it."""
    if not output.on_terminal():
        return
    with suppress(Refused, OSError):
        known = manual().words
        if found := [word for word in dict.fromkeys(words) if plain(word) in known]:
            output.say(
                f"lapse docs {' '.join(word.replace(' ', '-') for word in found)}: what the words mean", output.DIM
            )


def _list(book: Manual) -> str:
    folders: dict[str, list[DocumentPage]] = defaultdict(list)
    for page in book.pages:
        folders[str(PurePosixPath(page.path).parent)].append(page)
    told = ["# The documents of this version", ""]
    for folder, pages in folders.items():
        told += [f"## {folder}" if folder != "." else "## Beside them", ""]
        told += [f"- `{page.name}`: {page.title}" for page in pages]
        told.append("")
    return "\n".join(told)


def _about(book: Manual, word: str) -> str:
    """Return what is said of a word: in the list of commands, in tables and lists of terms, on a page of its own.

    Raises:
        Refused: nothing is.

    """
    parts, command = [], _command(word)
    if command is not None:
        shown = command.get_help(click.Context(command, info_name=f"lapse {word}"))
        parts.append(f"# lapse {word}\n\n```text\n{shown}\n```\n")
    for one in book.words.get(plain(word), ()):
        page = next(page for page in book.pages if page.path == one.page)
        text = book.linked(page, one.text)
        parts.append(f"## `{one.word}`\n\n{text}\n\n*{page.title}: `lapse docs {page.name}`*\n")
    if word.casefold() in book.by_name and (command is None or not parts[1:]):
        parts.append(book.readable(book.by_name[word.casefold()]))
    if not parts:
        raise Refused(Code.USAGE, f"the documents know no {word!r}: {_near(book, word)}")
    return "\n".join(parts)


def _near(book: Manual, word: str) -> str:
    from difflib import get_close_matches

    from lapse.cli.main import lapse

    commands = lapse.list_commands(click.Context(lapse))
    known = {plain(one): one for one in [*commands, *book.by_name]}
    known |= {key: said[0].word for key, said in book.words.items()}
    near = [known[one] for one in get_close_matches(plain(word), known, n=3)]
    return f"did you mean {' or '.join(near)}?" if near else "`lapse docs` lists the pages"


def _open(book: Manual, asked: Sequence[str]) -> None:
    """Open the site's page of each word.

    Raises:
        ConfigError: nobody said where the site is.
        Refused: a word is unknown.

    """
    import webbrowser

    site = os.environ.get(SITE)
    if not site:
        raise ConfigError(f"{SITE} is not set: give it the address of the site that `make docs` builds")
    for path in list(dict.fromkeys(_pages(book, asked))):
        address = f"{site.rstrip('/')}/{path.removesuffix('.md')}.html"
        output.say(address)
        if not webbrowser.open(address):
            output.note("No browser could be opened here.", output.WARN)


def _pages(book: Manual, asked: Sequence[str]) -> Iterator[str]:
    for word in asked or ["index"]:
        if word.casefold() in book.by_name:
            yield book.by_name[word.casefold()].path
        elif _command(word):
            yield COMMANDS
        elif plain(word) in book.words:
            yield book.words[plain(word)][0].page
        else:
            raise Refused(Code.USAGE, f"the documents know no {word!r}: {_near(book, word)}")


def _command(word: str) -> click.Command | None:
    from lapse.cli.main import lapse

    return lapse.get_command(click.Context(lapse, info_name="lapse"), word)


def _page(text: str) -> None:
    """Print Markdown: drawn, and in the pager, on a terminal."""
    if not output.on_terminal():
        for line in text.splitlines():
            output.say(line)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(width=min(WIDEST, Console().width), force_terminal=True, highlight=False)
    with console.capture() as drawn:
        console.print(Markdown(text, hyperlinks=False))
    click.echo_via_pager(drawn.get())
