"""The arguments that commands share: kinds, ids, times, durations, and the options for config and provider."""

import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from lapse import durations
from lapse.errors import ConfigError, InvalidResource
from lapse.providers.kinds import KINDS, singular
from lapse.registry import codec, keys
from lapse.registry.subjects import name_of

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Parsed(click.ParamType[T]):
    """What a function makes of a text; the error that it raises is the message."""

    def __init__(self, name: str, read: Callable[[str], T]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        """Return the value: that of a text, or what is one already."""
        try:
            return self._read(value) if isinstance(value, str) else cast("T", value)
        except (ConfigError, InvalidResource, ValueError) as error:
            self.fail(str(error), param, ctx)


class KindArgument(Parsed[str]):
    """A kind in singular or plural; becomes its name."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the kinds that begin so, in plural."""
        plurals = {kind.plural for kinds in KINDS.values() for kind in kinds.values()}
        return [CompletionItem(plural) for plural in sorted(plurals) if plural.startswith(incomplete)]


class PublishedName(click.ParamType[str]):
    """A name that a shell completes from what workers published; any text is one.

    Args:
        name: What it is a name of.
        find: The function of ``inspect.completion`` that returns what begins so.

    """

    def __init__(self, name: str, find: str) -> None:
        self.name = name
        self._find = find

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so."""
        # Only a completion pays for it, and it needs what needs this module.
        found: list[CompletionItem] = getattr(import_module("lapse.cli.inspect.completion"), self._find)(
            ctx, incomplete
        )
        return found


def _when(text: str, sign: int) -> datetime:
    """Return an aware time: of ISO 8601 with a zone, seconds since 1970, or a duration from now, or before."""
    if re.fullmatch(r"[0-9]{9,10}(\.[0-9]+)?", text):
        return datetime.fromtimestamp(float(text), UTC)
    with suppress(ValueError):
        return datetime.fromtimestamp(time.time() + sign * durations.parse(text), UTC)
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        ago = " ago" if sign < 0 else " from now"
        raise ValueError(f'{text!r} is no time: write "2026-12-24T18:00Z", or "2h" for two hours{ago}') from None
    if read.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: add Z for UTC, or an offset such as +01:00")
    return read


def _happened(text: str) -> datetime:
    """Return a time that is over; a clock may run ahead by as much as the registry takes."""
    when = _when(text, -1)
    if when.timestamp() > time.time() + codec.AHEAD:
        raise ValueError(f"{text!r} lies ahead: give a time that is over, such as 2h for two hours ago")
    return when


def _until(text: str) -> datetime:
    """Return when something is to end: a time, or a bare day, which ends by UTC; none that is over."""
    try:
        if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            end = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC) + timedelta(days=1)
        else:
            end = _when(text, 1)
    except OverflowError:
        raise ValueError(f"{text!r} is not between 2015 and 9999") from None
    if end <= datetime.now(UTC):
        raise ValueError(f"{text!r} is over already: give a time ahead, such as 90d or 2099-12-31")
    return end


def _reason(text: str) -> str:
    """Return a reason, which others read in a list and in the audit: on one line."""
    return text and codec.text(text, "the reason")


KIND = KindArgument("kind", singular)
ID = Parsed("id", keys.identifier)
PROVIDER = PublishedName("provider", "providers")
POLICY = PublishedName("policy", "policies")
SCOPE = PublishedName("scope", "scopes")
PLAN = PublishedName("hash", "plans")
SUBJECT = Parsed("subject", name_of)
REASON = Parsed("text", _reason)
SPAN = Parsed("duration", durations.parse)
PAST = Parsed("time", partial(_when, sign=-1))
HAPPENED = Parsed("time", _happened)
FUTURE = Parsed("time", partial(_when, sign=1))
UNTIL = Parsed("time", _until)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

config_option = click.option(
    "--config", "config", metavar="PATH", help="The policy file. Else LAPSE_CONFIG, else config/retention.toml."
)
provider_option = click.option(
    "--provider", type=PROVIDER, metavar="NAME", help="Which account, where several are configured."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
wide_option = click.option(
    "--wide", is_flag=True, help="Show every column on a narrow terminal too; its lines are longer than it is wide."
)
subject_option = click.option(
    "--subject", type=SUBJECT, metavar="NAME", help="All that is a subject's, in place of KIND and ID."
)
confirm_each_option = click.option(
    "--confirm",
    "confirm",
    type=PROVIDER,
    multiple=True,
    metavar="PROVIDER",
    help="Confirm, once for each provider touched.",
)
confirm_option = click.option(
    "--confirm", type=PROVIDER, metavar="PROVIDER", help="Confirm by the provider's name, where nobody can be asked."
)


def _one_of(context: click.Context, kind: object, id_: object, subject: object) -> None:
    """Refuse a call that names a resource and a subject, or neither."""
    if subject is not None and (kind is not None or id_ is not None):
        raise click.UsageError("--subject names all that is a subject's: leave KIND and ID out", context)
    if subject is None and (kind is None or id_ is None):
        raise click.UsageError("say which: KIND ID, or --subject NAME for all that is a subject's", context)


def resource_or_subject(command: F) -> F:
    """Add KIND and ID, or ``--subject`` in their place."""

    @wraps(command)
    def checked(*, kind: str | None, id_: str | None, subject: str | None, **given: Any) -> Any:
        _one_of(click.get_current_context(), kind, id_, subject)
        return command(kind=kind, id_=id_, subject=subject, **given)

    named = click.argument("id_", metavar="[ID]", type=ID, required=False)(checked)
    named = click.argument("kind", type=KIND, required=False)(named)
    return cast("F", subject_option(named))


def resource_arguments(command: F) -> F:
    """Add KIND and ID."""
    return click.argument("kind", type=KIND)(click.argument("id_", metavar="ID", type=ID)(command))


def this_call(**changed: str) -> str:
    """Return the command line that is being carried out, as it can be typed again, with some options changed."""
    context = click.get_current_context()
    words = context.command_path.split()
    for param in context.command.params:
        name = str(param.name)
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if name in changed or given:
            words += _typed(param, changed.get(name, context.params[name]))
    return shlex.join(words)


def _typed(param: click.Parameter, value: Any) -> Iterator[str]:
    """Yield the words that give a parameter its value."""
    for one in value if isinstance(value, tuple) else (value,):
        if isinstance(param, click.Option):
            yield param.opts[0]
        if one is not True:
            yield str(one)


def label(text: str) -> tuple[str, str]:
    """Return a label as it is typed.

    Raises:
        BadParameter: it is none.

    """
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r}: write KEY=VALUE", param_hint="--label")
    return (key, value)
