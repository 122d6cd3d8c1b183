"""Write the man pages: a page for lapse and one for each of its commands from click, one for the policy file.

``make reference`` writes them where they stand; the wheel puts them into ``share/man``.
"""

import json
import re
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click
from docutils.core import publish_string

from lapse import __version__
from lapse.cli.main import SECTIONS, VERBATIM, lapse
from lapse.policy.schema import schema

MAN = Path(__file__).parent
ROOT = MAN.parents[1]
POLICY_FILE = "lapse-retention.toml"
FILES = [
    ("config/retention.toml", f"The policy file, unless --config or LAPSE_CONFIG names another: {POLICY_FILE}(5)."),
]
ENVIRONMENT = [
    ("LAPSE_CONFIG", "The policy file."),
    ("LAPSE_REGISTRY__URL, REDIS_URL", "The Redis that holds the registry; the first goes first."),
    ("LAPSE_TABLE__KEY", "Any key of the policy file: two underscores for each table."),
    ("LAPSE_STATE_DIR", "A folder on a disk for what must survive a stop."),
    ("LAPSE_RUNTIME_DIR", "A folder for heartbeats; it may be in memory."),
    ("LAPSE_DOCS_URL", "Where the documents' site is, for `lapse docs --web`."),
]
_EXAMPLES = "Examples:\n"


def pages() -> dict[str, str]:
    """Return every man page, by its path below ``docs/man/``."""
    context = click.Context(lapse, info_name="lapse")
    found = {"man1/lapse.1": _program(context), f"man5/{POLICY_FILE}.5": _policy_file()}
    for name in lapse.list_commands(context):
        command = lapse.get_command(context, name)
        if command is not None:
            found[f"man1/lapse-{name}.1"] = _command(click.Context(command, context, info_name=name))
    return found


def _program(context: click.Context) -> str:
    said = [*_section("Synopsis"), r"**lapse** [OPTIONS] COMMAND [ARGS]...", *_section("Description")]
    said += [*_described(context.command), *_section("Commands")]
    for title, commands in SECTIONS.items():
        said += ["", f"**{title}**", ""]
        said += _list((f"lapse-{name}(1)", short) for name, (_module, short) in commands.items())
    codes = (ROOT / "docs" / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    said += [*_section("Exit status"), *_list(re.findall(r"^\| (\d+) \| (.*) \|$", codes, re.MULTILINE))]
    said += [*_section("Environment"), *_list(ENVIRONMENT), *_section("Files"), *_list(FILES)]
    said += [*_section("See also"), f"{POLICY_FILE}(5), lapse-docs(1)"]
    return _man("lapse", "delete what an application leaves behind at AI providers", 1, said)


def _command(context: click.Context) -> str:
    said = list(_told(context))
    said += [*_section("See also"), f"lapse(1), {POLICY_FILE}(5)"]
    short = context.command.get_short_help_str(200).rstrip(".")
    return _man(context.command_path.replace(" ", "-"), short[:1].lower() + short[1:], 1, said)


def _told(context: click.Context, mark: str = "=") -> Iterator[str]:
    """Yield what is said of a command, and then of each of its own."""
    command = context.command
    usage = " ".join(command.collect_usage_pieces(context))
    yield from _section("Synopsis", mark)
    yield f"**{context.command_path}** {_plain(usage)}"
    yield from _section("Description", mark)
    yield from _described(command)
    options = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    yield from _section("Options", mark)
    yield from _list(one for option in options if (one := option.get_help_record(context)))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _section(f"{context.command_path} {name}")
                yield from _told(click.Context(inner, context, info_name=name), "-")


def _described(command: click.Command) -> Iterator[str]:
    text, _, examples = cleandoc(command.help or "").replace(f"{VERBATIM}\n", "").partition(_EXAMPLES)
    yield _plain(text)
    if examples:
        yield from ["", "Examples::", "", *(f"    {line.strip()}" for line in examples.splitlines() if line.strip())]


def _policy_file() -> str:
    whole = schema()
    said = [
        *_section("Description"),
        "TOML. `lapse init` writes one that shows every key, `lapse check-config` checks it.",
    ]
    said += ["", "Each key can be overridden by the environment: ``LAPSE_POLICIES__CHAT__MODE=enforce``."]
    for name, one in whole["properties"].items():
        several = [*one.get("patternProperties", {}).values()]
        table = whole["definitions"][(several[0] if several else one)["$ref"].rpartition("/")[2]]
        said += [*_section(f"[{name}{'.NAME' if several else ''}]"), _plain(table["description"]), ""]
        said += _list((key, _of_key(about)) for key, about in table["properties"].items())
    said += [*_section("See also"), "lapse(1), lapse-check-config(1), lapse-schema(1)"]
    return _man(POLICY_FILE, "the policy file of lapse", 5, said)


def _of_key(said: dict[str, Any]) -> str:
    text, default = said.get("description", "See below."), said.get("default")
    return text if default in (None, [], {}) else f"{text} Default: `{json.dumps(default)}`."


def _section(title: str, mark: str = "=") -> Iterator[str]:
    yield from ["", title, mark * len(title), ""]


def _list(rows: Any) -> Iterator[str]:
    for term, text in rows:
        yield f"**{_plain(term)}**"
        yield f"    {_plain(' '.join(text.split()))}"
        yield ""


def _plain(text: str) -> str:
    """Return a text of ours as reStructuredText: what is in backquotes stays as it is, nothing else is marked up."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        f"``{part[1:-1]}``" if number % 2 else re.sub(r"([\\*|_])", r"\\\1", part) for number, part in enumerate(parts)
    )


def _man(name: str, about: str, number: int, said: list[str]) -> str:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (date,) = re.findall(rf"^## \[{re.escape(__version__)}\] - (\S+)", changes, re.MULTILINE)
    head = [name, "#" * len(name), "", about, "~" * len(about), ""]
    fields = [f":Manual section: {number}", ":Manual group: lapse", f":Version: lapse {__version__}", f":Date: {date}"]
    settings = {"report_level": 2, "halt_level": 2, "smart_quotes": False}
    text = publish_string(
        "\n".join([*head, *fields, "", *said]), writer="manpage", settings_overrides=settings
    ).decode()
    # Comments name what made the page, and its version.
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith('.\\"'))


def main(folder: str = "") -> None:
    """Write every page below a folder, or where it stands."""
    for name, text in pages().items():
        path = Path(folder or MAN) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
