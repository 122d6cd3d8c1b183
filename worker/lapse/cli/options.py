"""The arguments that commands share: kinds, ids, times, durations, and the options for config and provider."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from lapse import durations
from lapse.errors import ConfigError, InvalidResource
from lapse.providers.kinds import KINDS, singular
from lapse.registry import keys

F = TypeVar("F", bound=Callable[..., Any])


class KindArgument(click.ParamType[str]):
    """A kind in singular or plural; becomes its name."""

    name = "kind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the kind's name."""
        try:
            return singular(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the kinds that begin so, in plural."""
        plurals = {kind.plural for kinds in KINDS.values() for kind in kinds.values()}
        return [CompletionItem(plural) for plural in sorted(plurals) if plural.startswith(incomplete)]


class Identifier(click.ParamType[str]):
    """An id as the registry stores it."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the id unchanged."""
        try:
            return keys.identifier(value)
        except InvalidResource as error:
            self.fail(str(error), param, ctx)


class SpanArgument(click.ParamType[float]):
    """A duration such as ``90s`` or ``30d``; becomes seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        try:
            return durations.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class When(click.ParamType[datetime]):
    """A time: ISO 8601 with a zone, seconds since 1970, or a duration from now; becomes an aware datetime."""

    name = "time"

    def __init__(self, *, past: bool) -> None:
        self._sign = -1 if past else 1

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time."""
        if isinstance(value, datetime):
            return value
        if re.fullmatch(r"[0-9]{9,10}(\.[0-9]+)?", value):
            return datetime.fromtimestamp(float(value), UTC)
        try:
            return datetime.fromtimestamp(time.time() + self._sign * durations.parse(value), UTC)
        except ValueError:
            return self._iso(value, param, ctx)

    def _iso(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            read = datetime.fromisoformat(value)
        except ValueError:
            ago = " ago" if self._sign < 0 else " from now"
            self.fail(f'{value!r} is no time: write "2026-12-24T18:00Z", or "2h" for two hours{ago}', param, ctx)
        if read.tzinfo is None:
            self.fail(f"{value!r} has no time zone: add Z for UTC, or an offset such as +01:00", param, ctx)
        return read


KIND = KindArgument()
ID = Identifier()
SPAN = SpanArgument()
PAST = When(past=True)
FUTURE = When(past=False)


def config_option(command: F) -> F:
    """Add ``--config``."""
    return click.option(
        "--config", "config", metavar="PATH", help="The policy file. Else LAPSE_CONFIG, else config/retention.toml."
    )(command)


def provider_option(command: F) -> F:
    """Add ``--provider``."""
    return click.option("--provider", metavar="NAME", help="Which account, where several are configured.")(command)


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def confirm_option(command: F) -> F:
    """Add ``--confirm``."""
    return click.option(
        "--confirm", metavar="PROVIDER", help="Confirm by the provider's name, where nobody can be asked."
    )(command)


def resource_arguments(command: F) -> F:
    """Add KIND and ID."""
    return click.argument("kind", type=KIND)(click.argument("id_", metavar="ID", type=ID)(command))
