"""The operator's word for an erasure: once for each provider that it touches."""

import json

import click

from lapse.cli import formatting, output
from lapse.cli.context import Invocation
from lapse.cli.exit_codes import Code, Refused
from lapse.errors import ConfigError
from lapse.ledger.erasure.request import GONE, ErasureAccount, Fate


def confirmed_at(session: Invocation, account: ErasureAccount, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the providers that were confirmed: all that the erasure touches.

    Raises:
        ConfigError: a name is no provider of the policy file.
        Refused: some are missing; nothing was done.

    """
    # Workers delete by their policy file, which may have a provider more than this one.
    known = {*session.config.accounts, *json.loads(session.view.published().get("providers", "[]"))}
    if unknown := sorted(set(given) - known):
        there = ", ".join(sorted(known))
        raise ConfigError(f"--confirm={unknown[0]}: {session.config.path} has no such provider; there is {there}")
    touched = sorted({one.resource.provider for one in account.ids if one.fate not in GONE})
    needed = [name for name in touched if name in known]
    missing = [name for name in needed if name not in given]
    if missing and output.can_ask():
        missing = [name for name in missing if not _typed(name, account)]
    if missing:
        options = " ".join(f"--confirm={name}" for name in needed)
        raise Refused(Code.CONFIRM, f"not confirmed for {', '.join(missing)}: nothing was done; give {options}")
    return tuple(needed)


def _typed(name: str, account: ErasureAccount) -> bool:
    n = sum(one.resource.provider == name and one.fate is Fate.PENDING for one in account.ids)
    asked = f"Type {name} to erase {formatting.count(n, 'object')} there for good"
    return bool(click.prompt(asked, default="", show_default=False, err=True).strip() == name)
