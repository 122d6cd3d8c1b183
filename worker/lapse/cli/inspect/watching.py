"""``--watch``: what a command shows, again and again, until somebody ends it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

import click
import redis

from lapse.cli import output
from lapse.cli.context import Invocation
from lapse.cli.options import Parsed
from lapse.errors import LapseError
from lapse.log import redact
from lapse.registry.connection import translated

EVERY = "2"
SHORTEST, LONGEST = 0.1, 86_400.0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number of seconds: give --watch last, or --watch=5") from None
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(f"{text!r}: from {SHORTEST:g} to {LONGEST:.0f} seconds")
    return seconds


watch_option = click.option(
    "--watch",
    type=Parsed("seconds", _seconds),
    is_flag=False,
    flag_value=EVERY,
    metavar="[S]",
    help=f"Show it again every S seconds, {EVERY} unless given; Ctrl-C ends it.",
)


def watched(session: Invocation, every: float | None, show: Callable[[Invocation], object], *, apart: bool) -> None:
    """Show something once, or every so many seconds without an end.

    A terminal is cleared for each look; elsewhere a look follows the one before. Each reads the policy file and the
    registry anew. An error of a later look stands in its place: Redis may be back at the next.

    Args:
        session: Of the first look.
        every: Seconds between looks; None for one look.
        show: Prints one.
        apart: Whether an empty line stands between two looks where there is no terminal: not between JSON documents.

    Raises:
        LapseError: of the first look.

    """
    if every is None:
        show(session)
        return
    _draw(every, lambda: show(session))
    while True:
        time.sleep(every)
        if apart and not output.on_terminal():
            output.say()
        _draw(every, lambda: _again(session, show))


def _draw(every: float, show: Callable[[], object]) -> None:
    with output.redrawn():
        if output.on_terminal():
            output.say(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, every {every:g} s; Ctrl-C ends it", output.DIM)
        show()


def _again(session: Invocation, show: Callable[[Invocation], object]) -> None:
    try:
        show(Invocation(session.environ.get("LAPSE_CONFIG"), session.given_provider))
    except (LapseError, redis.RedisError) as raised:
        error = translated(raised) if isinstance(raised, redis.RedisError) else raised
        tell = output.say if output.on_terminal() else output.note
        tell(f"lapse: {redact(str(error))}", output.BAD)
