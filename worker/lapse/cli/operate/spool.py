"""``lapse spool``: what applications on this host said while Redis was away, and sending it."""

import time
from pathlib import Path

import click

from lapse.cli import output
from lapse.cli.context import Invocation
from lapse.cli.exit_codes import Code
from lapse.cli.options import config_option, json_option
from lapse.registry.spool import place
from lapse.registry.spool.spool import of as spool_of
from lapse.registry.spool.store import SpoolStore

COLUMNS = (
    output.Column("namespace"),
    output.Column("database", right=True),
    output.Column("epoch"),
    output.Column("waiting", right=True),
    output.Column("oldest", right=True),
)

file_option = click.option(
    "--file", type=click.Path(path_type=Path, dir_okay=False), help="The spool; else LAPSE_SPOOL, else this user's."
)


@click.group()
def spool() -> None:
    """See to what applications on this host said while Redis was away.

    A registry with on_error="spool", which lapse.track uses, keeps it in a file and sends it when Redis is back.

    Examples:
      lapse spool status
      lapse spool flush

    """


@spool.command()
@file_option
@config_option
@json_option
def status(*, file: Path | None, config: str | None, as_json: bool) -> None:
    """Say what waits, for which registry, and since when; and what Redis refused, and why.

    Examples:
      lapse spool status
      lapse spool status --file /var/lib/app/lapse.spool --json

    """
    session = Invocation(config)
    path = file or place.default(session.namespace)
    contents, refused = [], []
    if place.exists(path):
        with SpoolStore(path, wait=5.0) as store:
            contents, refused = store.contents(), store.refused()
    if as_json:
        waiting = [{**one.origin._asdict(), "waiting": one.waiting, "oldest": one.oldest / 1000} for one in contents]
        named = [{**call.given, "why": why} for call, why in refused]
        output.document({"file": str(path), "waiting": waiting, "refused": named})
        return
    rows = [(*map(str, one.origin), str(one.waiting), _age(one.oldest)) for one in contents]
    output.table(COLUMNS, rows, empty=f"nothing waits in {path}")
    for call, why in refused:
        given = call.given
        output.say(f"refused: {given.get('call', 'register')} {given['kind']} {given['id']}: {why}", output.WARN)


@spool.command()
@file_option
@config_option
@json_option
def flush(*, file: Path | None, config: str | None, as_json: bool) -> int:
    """Send what waits for this registry, in order. What was said of an id since then stays as it is.

    What waits for another registry, or for another epoch of this one, is left where it is. The exit code is 5 if Redis
    refused some, and 4 if it does not answer or another process is sending them.

    Examples:
      lapse spool flush

    """
    session = Invocation(config)
    flushed = spool_of(file, session.namespace, session.endpoint).flush()
    if flushed is None:
        output.note("another process is sending them")
        return Code.TEMPORARY
    if as_json:
        output.document({"sent": flushed.sent, "refused": flushed.refused, "old": flushed.old})
    else:
        output.say(f"{flushed.sent} sent, {flushed.refused} refused, {flushed.old} too old")
    return Code.PARTIAL if flushed.refused or flushed.old else Code.OK


def _age(millis: int) -> str:
    return f"{max(0, round(time.time() - millis / 1000))} s"
