"""``lapse metrics``, ``sandbox`` and ``demo``: what serves, or shows itself."""

from pathlib import Path

import click

from lapse.cli.context import Invocation
from lapse.cli.options import FILE, NEW_FILE, SPAN, config_option
from lapse.log import configure

LOOPBACK = "127.0.0.1"


@click.command()
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=9108, show_default=True, help="0 takes a free one.")
@click.option("--page", is_flag=True, help="Serve what `lapse status` shows as a page too, at / and /policy/NAME.")
@config_option
def metrics(*, host: str, port: int, page: bool, config: str | None) -> None:
    """Serve /metrics for Prometheus, /livez, /readyz and /startupz, until TERM or Ctrl-C.

    With --page there is also a page for people: every policy, what waits for whom, and what to type then. None of it
    asks for a login. It shows names, counts and classes of trouble; no ids, subjects, labels or reasons.

    Examples:
      lapse metrics
      lapse metrics --page
      lapse metrics --host 0.0.0.0 --port 9108

    """
    from lapse.cli.inspect.page.pages import status_pages
    from lapse.metrics import server

    configure()
    server.serve(Invocation(config).environ, Path.cwd(), host, port, status_pages if page else None)


@click.command()
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0, the default, takes a free one.")
@click.option("--log", type=NEW_FILE, metavar="FILE", help="Append every request, as JSONL.")
@click.option("--faults", type=FILE, metavar="FILE", help="A fault script, TOML.")
@click.option(
    "--latency", type=SPAN, default=0.0, metavar="DURATION", help='Every answer waits so long, such as "20ms".'
)
@click.option("--key", "keys", multiple=True, metavar="KEY=PROJECT", help="Accept this key, and no other. Repeatable.")
def sandbox(
    *, host: str, port: int, log: Path | None, faults: Path | None, latency: float, keys: tuple[str, ...]
) -> None:
    """Serve a stand-in for the provider until TERM or Ctrl-C; its base URL goes to stdout.

    It keeps state as the provider does and answers with exact bodies. Run your own policies against it: OpenAI's API is
    under /v1, Foundry's under /foundry, and LangGraph's under /langgraph of the same address.

    Examples:
      lapse sandbox --port 8099 --log requests.jsonl
      lapse sandbox --latency 20ms --key sk-test=default

    """
    from lapse.sandbox import serve

    projects = dict(key.rpartition("=")[::2] if "=" in key else (key, "default") for key in keys)
    serve(port, host=host, log=log, script=faults, latency=latency, keys=projects or None)


@click.command()
def demo() -> int:
    """Run the whole job on real parts: a private Redis, a stand-in provider, a worker, beat and the exporter.

    Nothing has to be installed or configured, and nothing outside this machine is asked.

    Examples:
      lapse demo

    """
    from lapse.sandbox.demo import main

    return main()
