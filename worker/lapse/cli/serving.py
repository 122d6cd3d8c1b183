"""``lapse metrics``, ``sandbox``, ``demo`` and ``health``: what serves, shows itself, or is asked by a supervisor."""

from pathlib import Path

import click

from lapse.cli import output
from lapse.cli.arguments import SPAN, config_option, json_option
from lapse.cli.codes import Code
from lapse.cli.session import Session
from lapse.log import configure
from lapse.settings import ConfigFile, find

LOOPBACK = "127.0.0.1"
FILE = click.Path(dir_okay=False, path_type=Path)
SCRIPT = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=9108, show_default=True, help="0 takes a free one.")
@config_option
def metrics(*, host: str, port: int, config: str | None) -> None:
    """Serve /metrics for Prometheus, /livez and /readyz, until TERM or Ctrl-C.

    Examples:
      lapse metrics
      lapse metrics --host 0.0.0.0 --port 9108

    """
    from lapse import health  # noqa: PLC0415 - it loads the Prometheus client

    configure()
    health.serve(Session(config).environ, Path.cwd(), host, port)


@click.command("health")
@config_option
@json_option
def health(*, config: str | None, as_json: bool) -> int:
    """Say whether the registry answers, workers and beat live, the policy file is valid, and nothing is halted.

    The exit code is 0 if all is well, 4 if something is silent, and 6 if a policy is halted.

    Examples:
      lapse health
      lapse health --json

    """
    from lapse.health import Health  # noqa: PLC0415 - it loads the Prometheus client

    session = Session(config)
    checks = Health(session.client, ConfigFile(find(session.environ, Path.cwd()), session.environ)).checks()
    if as_json:
        output.document({name: {"ok": passed, "detail": text} for name, (passed, text) in checks.items()})
    else:
        for name, (passed, text) in checks.items():
            output.say(f"{'ok  ' if passed else 'FAIL'} {name}: {text}", "" if passed else output.BAD)
    failed = {name for name, (passed, _text) in checks.items() if not passed}
    if failed - {"halted"}:
        return Code.TEMPORARY
    return Code.HALTED if failed else Code.OK


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0, the default, takes a free one.")
@click.option(
    "--log", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Append every request, as JSONL."
)
@click.option(
    "--faults",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A fault script, TOML.",
)
@click.option(
    "--latency", type=SPAN, default=0.0, metavar="DURATION", help='Every answer waits so long, such as "20ms".'
)
@click.option("--key", "keys", multiple=True, metavar="KEY=PROJECT", help="Accept this key, and no other. Repeatable.")
def sandbox(*, port: int, log: Path | None, faults: Path | None, latency: float, keys: tuple[str, ...]) -> None:
    """Serve a stand-in for the provider on this machine, until TERM or Ctrl-C; its base URL goes to stdout.

    It keeps state as the provider does and answers with exact bodies. Run your own policies against it.

    Examples:
      lapse sandbox --port 8099 --log requests.jsonl
      lapse sandbox --latency 20ms --key sk-test=default

    """
    from lapse.sandbox import serve  # noqa: PLC0415 - it needs the extra [sandbox]

    projects = dict(key.rpartition("=")[::2] if "=" in key else (key, "default") for key in keys)
    serve(port, log=log, script=faults, latency=latency, keys=projects or None)


@click.command()
def demo() -> int:
    """Run the whole job on real parts: a private Redis, a stand-in provider, a worker, beat and the exporter.

    Nothing has to be installed or configured, and nothing outside this machine is asked.

    Examples:
      lapse demo

    """
    from lapse.demo import main  # noqa: PLC0415 - only this command needs it

    return main()
