"""What of the environment reaches Celery: nothing that another Celery application of this host, slug or pod left there.

Celery takes many of its settings and each option of its programs from variables named ``CELERY_...`` too, before what
an application says. lapse takes ``CELERY_BROKER_URL`` alone, and hands it over itself.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

import click
from click.core import ParameterSource

from lapse.errors import ConfigError

BROKER = "CELERY_BROKER_URL"
PREFIX = "CELERY_"
AT_START = Path("/proc/self/environ")
"""Linux: the variables as they were before Celery's program changed them."""


def take(environ: MutableMapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Take Celery's variables out of the environment, before Celery looks.

    Args:
        environ: This process' environment; it is changed.

    Returns:
        The environment as lapse reads it, and the names of the variables that were left out of it.

    Raises:
        ConfigError: one of them has moved this process to another directory already.

    """
    if _from_variable("workdir"):
        raise ConfigError("CELERY_WORKDIR is set, and Celery follows it before anybody can say no: unset it")
    mine = dict(environ)
    ignored = sorted(name for name in environ if name.startswith(PREFIX) and name != BROKER)
    if _from_variable("broker"):  # then Celery's program has put that in the place of ours
        ignored.append("BROKER_URL")
        mine[BROKER] = _at_start().get(BROKER, "")
    for name in (*ignored, BROKER):
        environ.pop(name, None)
    return mine, ignored


def _from_variable(option: str) -> bool:
    """Return True if Celery's program, which imports lapse just now, has an option's value from the environment."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(option) is ParameterSource.ENVIRONMENT


def _at_start() -> dict[str, str]:
    try:
        pairs = (pair.partition(b"=") for pair in AT_START.read_bytes().split(b"\0"))
    except OSError:
        return {}
    return {os.fsdecode(name): os.fsdecode(value) for name, equals, value in pairs if equals}
