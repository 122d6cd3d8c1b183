"""The command ``lapse``: which commands there are, where each is found, and how an error becomes an exit code."""

import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from inspect import cleandoc
from keyword import iskeyword

import click
import redis
from click.shell_completion import CompletionItem

from lapse import __version__
from lapse.cli import output
from lapse.cli.exit_codes import Code, code_of
from lapse.errors import LapseError, RegistryUnavailable
from lapse.log import redact
from lapse.registry.connection import translated

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Begin": {
        "init": ("config", "Write an annotated policy file."),
        "check-config": ("config", "Check the policy file and say what each policy does."),
        "doctor": ("doctor.command", "Look at everything lapse stands on, and say what to mend."),
        "schema": ("config", "Print the policy file's JSON Schema."),
        "demo": ("serve", "Run the whole job on real parts, with nothing configured."),
    },
    "Resources": {
        "register": ("operate.resources", "Track an id under a policy, or a whole file of them."),
        "import": ("operate.imports", "Track the ids of a table: CSV or JSON lines."),
        "export": ("transfer.export", "Write the whole registry into a file, or move it."),
        "touch": ("operate.resources", "Move an id's last activity to now."),
        "hold": ("operate.resources", "Forbid the deletion of an id."),
        "unhold": ("operate.resources", "Take a hold back."),
        "expire": ("operate.resources", "Make an id due now, or at a time."),
        "forget": ("operate.resources", "Stop tracking an id; delete nothing."),
        "subject": ("erasure.subject", "Say anew whose data an id is."),
        "adopt": ("transfer.adopt", "Track what a provider lists and nobody registered."),
        "spool": ("operate.spool", "See to what applications said while Redis was away."),
    },
    "Look": {
        "status": ("inspect.status", "What each policy holds, does, and waits for."),
        "ls": ("inspect.ls", "List the ids of a kind."),
        "explain": ("inspect.explain", "Why an id will or will not be deleted, and when."),
        "plan": ("inspect.plan", "What the next enforced sweep would delete."),
        "health": ("inspect.health", "Whether the registry, the workers and beat are well; by exit code too."),
        "docs": ("inspect.docs", "Show the documents: a page, or what a word means."),
    },
    "Act": {
        "apply": ("operate.apply", "Delete exactly what a plan in a file names, or less."),
        "approve": ("inspect.plan", "Answer a halt that carries a plan."),
        "pause": ("operate.pause", "Stop deleting: everywhere, or in one scope."),
        "resume": ("operate.pause", "Take pauses back; with --reason, answer halts."),
        "sweep": ("operate.sweep", "Sweep now, in this process."),
        "orphans": ("operate.orphans", "Show orphan candidates; with --run, look for them now."),
        "erase": ("erasure.erase", "Erase all that is a person's, by a request that can be followed."),
        "purge": ("operate.purge", "Delete everything of a kind, and ask what is left."),
        "quarantine": ("operate.quarantine", "See to the ids that no worker goes on with."),
        "receipt": ("receipts.receipt", "Say what became of an erasure, signed; verify what was said."),
        "audit": ("inspect.audit", "Read the record of every intent and outcome, and verify it."),
    },
    "Serve": {
        "metrics": ("serve", "Serve Prometheus metrics, /livez, /readyz and /startupz."),
        "sandbox": ("serve", "Serve a stand-in for the provider."),
    },
}
"""Section -> command -> the module below this package that has it, and what it does in one line."""

VERBATIM = "\b"
"""What click leaves a paragraph alone for, if the line before it is this."""

_COMMANDS = {name: found for section in SECTIONS.values() for name, found in section.items()}


class Program(click.Group):
    """A group that imports a command's module when the command is used: no command pays for another's libraries."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every command's name."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None if there is no such thing."""
        if cmd_name not in _COMMANDS:
            return None
        module, short = _COMMANDS[cmd_name]
        name = cmd_name.replace("-", "_")
        name += "_" * iskeyword(name)
        command: click.Command = getattr(import_module(f"lapse.cli.{module}"), name)
        command.short_help = short
        _keep_examples(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name, or say which one was probably meant."""
        name = args[0]
        if not name.startswith("-") and name not in _COMMANDS:
            near = get_close_matches(name, _COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else "`lapse --help` lists them"
            ctx.fail(f"there is no command {name!r}: {hint}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so, without importing any."""
        found = [
            CompletionItem(name, help=short) for name, (_, short) in _COMMANDS.items() if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in sections."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, short) for name, (_module, short) in commands.items()])


def _keep_examples(command: click.Command) -> None:
    """Have the examples of a help shown line by line: click would make a paragraph of them."""
    if command.help and VERBATIM not in command.help:
        command.help = cleandoc(command.help).replace("\nExamples:\n", f"\n{VERBATIM}\nExamples:\n")
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        _keep_examples(inner)


@click.command(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="lapse %(version)s")
def lapse() -> None:
    """Delete what an application leaves behind at AI providers when the policy file says so.

    `lapse COMMAND --help` shows examples. Data goes to stdout, messages to stderr. For completion in bash:
    eval "$(_LAPSE_COMPLETE=bash_source lapse)"; zsh_source and fish_source are the others.

    Exit codes: 0 ok, 1 unexpected, 2 usage or config, 4 Redis or provider unreachable, 5 some failed,
    6 halted, 7 limited, 8 confirmation required.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; expected errors are a message, never a traceback."""
    try:
        result = lapse.main(arguments, prog_name="lapse", standalone_mode=False)
        output.flush()
    except BaseException as error:  # noqa: BLE001 - the last resort of a program
        return _ended(error)
    return int(result) if isinstance(result, int) else Code.OK


def _ended(error: BaseException) -> int:
    """Say why a command ended, if there is anything to say, and return its exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else Code.UNEXPECTED
    if isinstance(error, output.ReaderGone):
        output.reader_gone()
        return Code.OK
    text, code = _said(error)
    if code is Code.UNEXPECTED:
        sys.stderr.write(redact("".join(traceback.format_exception(error))))
    if text:
        _complain(text)
    return code


def _said(error: BaseException) -> tuple[str, Code]:
    said = (f"unexpected: {error or type(error).__name__}", Code.UNEXPECTED)
    match error:
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message())
            said = ("", Code.USAGE)
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "lapse"
            said = (f"{error.format_message()}\n  {command} --help says more", Code.USAGE)
        case click.ClickException():
            said = (error.format_message(), Code.USAGE)
        case RegistryUnavailable():
            said = (f"{error}\n  start Redis, or correct the registry's URL; lapse doctor looks at it", code_of(error))
        case LapseError():
            said = (str(error), code_of(error))
        case redis.RedisError():
            said = _said(translated(error))
        case KeyboardInterrupt() | click.Abort():
            said = ("interrupted", Code.INTERRUPTED)
    return said


def _complain(text: str) -> None:
    sys.stderr.write(f"lapse: {redact(text)}\n")
