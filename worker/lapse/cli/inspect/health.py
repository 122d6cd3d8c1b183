"""``lapse health``: what a supervisor asks, of one process or of the whole deployment."""

import os
from pathlib import Path

import click

from lapse.cli import output
from lapse.cli.exit_codes import Code
from lapse.cli.options import config_option, json_option
from lapse.runtime import heartbeat


@click.command()
@click.option("--worker", "role", flag_value=heartbeat.WORKER, help="Only: does the worker on this host turn?")
@click.option("--beat", "role", flag_value=heartbeat.BEAT, help="Only: does the beat on this host turn?")
@click.option(
    "--live", is_flag=True, help="Only: does its loop turn, with a connection or not? Of the worker, if no --beat."
)
@config_option
@json_option
def health(*, role: str | None, live: bool, config: str | None, as_json: bool) -> int:
    """Say whether the registry answers, wake-ups arrive, the policy file is valid, and nothing is halted.

    With --worker, --beat or --live nobody is asked: a file says when the loop of that process last turned, and whether
    it has a connection to the broker. It is in LAPSE_RUNTIME_DIR, else in RUNTIME_DIRECTORY, else in lapse below
    XDG_RUNTIME_DIR, else in /tmp/lapse-UID. A process without a connection waits for one, and is not ready, but alive:
    --live is for what restarts it.

    The exit code is 0 if all is well, 4 if something is silent, and 6 if a policy is halted.

    Examples:
      lapse health
      lapse health --json
      lapse health --worker
      lapse health --beat
      lapse health --live
      lapse health --live --beat

    """
    if role or live:
        role = role or heartbeat.WORKER
        found = heartbeat.read(role, os.environ, live=live)
        return _told({role: (found.ok, found.detail)}, as_json=as_json)
    # A probe of one process pays for none of these.
    from lapse.cli.context import Invocation
    from lapse.metrics.server import Health
    from lapse.policy.reload import ConfigFile, find

    session = Invocation(config)
    file = ConfigFile(find(session.environ, Path.cwd()), session.environ)
    return _told(Health(session.client, file).checks(), as_json=as_json)


def _told(checks: dict[str, tuple[bool, str]], *, as_json: bool) -> int:
    if as_json:
        output.document({name: {"ok": passed, "detail": text} for name, (passed, text) in checks.items()})
    else:
        for name, (passed, text) in checks.items():
            output.say(f"{'ok  ' if passed else 'FAIL'} {name}: {text}", "" if passed else output.BAD)
    failed = {name for name, (passed, _text) in checks.items() if not passed}
    if failed - {"halted"}:
        return Code.TEMPORARY
    return Code.HALTED if failed else Code.OK
