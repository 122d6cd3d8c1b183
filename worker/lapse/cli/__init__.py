"""The ``lapse`` script. Importing this module loads nothing of the worker half."""

import sys
from importlib.util import find_spec

NEEDED = ("aiohttp", "click", "openai", "packaging", "prometheus_client", "pydantic", "rich", "structlog")
"""What the extra ``[worker]`` brings, except Celery, which no command imports."""


def main() -> int:
    """Run the command that the arguments name and return its exit code; 2 without the worker half."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"lapse: the command line needs lapse's worker half, and {', '.join(missing)} cannot be imported.\n"
            "  from the repository:  pip install '.[worker]'\n"
            "  from a built wheel:   pip install 'PATH/TO/lapse-VERSION-py3-none-any.whl[worker]'\n"
        )
        return 2
    from lapse.cli.main import run

    return run()
