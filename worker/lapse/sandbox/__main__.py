"""``python -m lapse.sandbox``: the stand-in where the command line's libraries are not installed."""

import argparse
import sys
from pathlib import Path

from lapse import durations
from lapse.errors import ConfigError
from lapse.sandbox import serve


def main() -> int:
    """Run the stand-in until SIGTERM or SIGINT; return the exit code, 2 for a wrong option or file."""
    parser = argparse.ArgumentParser("python -m lapse.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--log", type=Path, help="append every request to this file, as JSON lines")
    parser.add_argument("--faults", type=Path, help="a fault script, TOML")
    parser.add_argument("--latency", help='every answer waits so long, such as "20ms"')
    parser.add_argument("--key", action="append", default=[], help="KEY=PROJECT: accept this key, and no other")
    given = parser.parse_args()
    try:
        latency = _seconds(given.latency)
        keys = dict(each.rpartition("=")[::2] if "=" in each else (each, "default") for each in given.key)
        serve(given.port, log=given.log, script=given.faults, latency=latency, keys=keys)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _seconds(text: str | None) -> float:
    try:
        return durations.parse(text) if text else 0.0
    except ValueError as error:
        raise ConfigError(f"--latency: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
