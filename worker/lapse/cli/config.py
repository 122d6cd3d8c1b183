"""``lapse init``, ``check-config`` and ``schema``: from nothing to a policy file that says what is meant."""

import json
import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import click

from lapse import policy
from lapse.audit.chain import open_seal
from lapse.cli import formatting, output
from lapse.cli.context import Invocation
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.options import config_option, json_option
from lapse.errors import ConfigError
from lapse.log import redact
from lapse.policy import Config
from lapse.policy.estimate import forecast
from lapse.policy.reload import DEFAULT, broker_source, origin_of, registry_source
from lapse.providers import entra
from lapse.providers.account import Account
from lapse.providers.kinds import KINDS


@click.command()
@config_option
@json_option
def init(*, config: str | None, as_json: bool) -> None:
    """Write an annotated policy file to config/retention.toml, or to --config, and its JSON Schema beside it.

    The file's first line names the schema, so that editors complete and check it. What is there already is never
    overwritten.

    Examples:
      lapse init
      lapse init --config retention.toml

    """
    path = Path(config or Invocation().environ.get("LAPSE_CONFIG") or DEFAULT)
    beside = path.with_suffix(".schema.json")
    text = files("lapse.policy").joinpath("retention.toml").read_text(encoding="utf-8")
    if path.exists():
        raise Refused(Code.USAGE, f"{path} is there already and stays as it is; give --config PATH to write elsewhere")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(f"#:schema ./{quote(beside.name)}\n{text}")
    except OSError as error:
        raise Refused(Code.USAGE, f"{path} cannot be written: {error.strerror}") from None
    if as_json:
        output.document({"path": str(path), "schema": str(beside)})
    else:
        output.say(str(path))
    _write_schema(beside, path)
    output.note("Next: say in it what to delete and when, and look at it with `lapse check-config`.")
    output.note("Then: set LAPSE_REGISTRY__URL and OPENAI_API_KEY, and start `celery -A lapse.app worker --beat`.")


def _write_schema(beside: Path, path: Path) -> None:
    """Write the schema, or say what is in its place: another one is somebody's, or an older version's."""
    text = json.dumps(policy.schema(), ensure_ascii=False, indent=2) + "\n"
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        if not _holds(beside, policy.schema()):
            output.note(
                f"{beside} is there already, is not this version's schema, and stays as it is; {path} names it, so"
                f" editors complete by it. This version's: `lapse schema > {shlex.quote(str(beside))}`",
                output.WARN,
            )
    except OSError as error:
        output.note(f"{beside} cannot be written: {error.strerror}; {path} names it for editors alone", output.WARN)
    else:
        output.note(f"{beside} is for editors: the first line of {path} names it.")


def _holds(file: Path, value: object) -> bool:
    with suppress(OSError, ValueError):
        return bool(json.loads(file.read_text(encoding="utf-8")) == value)
    return False


@click.command()
@config_option
@json_option
def check_config(*, config: str | None, as_json: bool) -> None:
    """Check the policy file and say what each policy does, in a sentence.

    Every problem is reported at once, with file, line and key; the exit code is 2 then. No key has to be set, and
    neither Redis nor a provider is asked.

    Examples:
      lapse check-config
      lapse check-config --config config/retention.toml --json

    """
    session = Invocation(config)
    checked = session.config
    if as_json:
        output.document(_described(checked))
        return
    for account in checked.accounts.values():
        output.say(f"{account.name}: {_account(account)}", output.DIM)
    for rule in checked.rules:
        output.say(f"{rule.partition}: {formatting.does(rule)}", "" if rule.enforce else output.WARN)
    output.note(f"{checked.path} is valid (hash {checked.hash}).")
    ending = _ending(checked, datetime.now(UTC).date())
    for warning in [*ending, *_unproving(checked), *_unused(session, checked), *_still_missing(session, checked)]:
        output.note(warning, output.WARN)


@click.command()
def schema() -> None:
    """Print the JSON Schema of the policy file, for editors that complete and check TOML.

    Examples:
      lapse schema

    """
    output.document(policy.schema())


def _account(account: Account) -> str:
    key = account.api_key_env or account.api_key_file or account.auth
    rate = "no rate limit" if account.rate is None else forecast(0, account.rate).rpartition(" ")[2]
    return f"type {account.type} at {redact(account.base_url)}, key from {key}, {rate}, {account.concurrency} at a time"


def _ending(config: Config, today: date) -> Iterator[str]:
    """Yield what still works and will not for long: endpoints with a known end."""
    for provider, kind in sorted({(rule.partition.provider, rule.partition.kind) for rule in config.rules}):
        account = config.accounts[provider]
        host = urlsplit(account.base_url).hostname or ""
        sunset = KINDS[account.type][kind].sunset(host)
        if sunset and not sunset.over(today):
            plural, days = formatting.plural(kind), (sunset.date - today).days
            yield f"{provider}: {host} serves {plural} until {sunset.date}, {days} more days; then: {sunset.successor}."


def _unproving(config: Config) -> Iterator[str]:
    """Yield canaries whose confirmed deletion may say nothing: a bare 204 is what some servers answer to any id."""
    for name, account in config.accounts.items():
        mine = {rule.partition.kind for rule in config.rules if rule.partition.provider == name}
        bare = sorted(kind for kind in mine if KINDS[account.type][kind].no_content)
        if account.proof and bare:
            plurals = formatting.either(formatting.plural(kind) for kind in bare)
            yield (
                f'{name}: proof = "canary" proves nothing where DELETE confirms what is not there too, as servers that '
                f"answer a bare 204 for {plurals} may: lapse doctor --canary --confirm={name} shows whether yours does."
            )


def _unused(session: Invocation, config: Config) -> Iterator[str]:
    """Yield the file of the Sentinels' password where nothing asks Sentinels by it."""
    if config.registry.sentinel_password_file is None:
        return
    try:
        asked = [registry_source(config, session.environ), broker_source(config, session.environ)]
    except ConfigError:
        return  # which is told by itself, or by the process that it keeps from starting
    if not any(one.sentinels for one in asked):
        named = origin_of(config, "registry", "sentinel_password_file")
        yield f"{named} is of no use: no redis+sentinel:// URL leaves the Sentinels' password to it."


def _still_missing(session: Invocation, config: Config) -> list[str]:
    """Return what the environment does not have yet: no reason to refuse a file that is right."""
    unset = sorted({account.api_key_env or "" for account in config.accounts.values()} - {"", *session.environ})
    said = [f"{name} is not set here; workers need it." for name in unset]
    if any(account.auth for account in config.accounts.values()) and not entra.installed():
        said.append(f'auth = "entra" needs azure-identity, which is not installed here: {entra.INSTALL}')
    for look in (lambda: registry_source(config, session.environ), lambda: open_seal(config.audit.key_file)):
        try:
            look()
        except ConfigError as error:
            said.append(str(error))
    return said


def _described(config: Config) -> dict[str, Any]:
    policies = [
        {
            **asdict(rule.partition),
            "mode": "enforce" if rule.enforce else "observe",
            "does": formatting.does(rule),
            "digest": rule.digest,
        }
        for rule in config.rules
    ]
    return {"path": str(config.path), "hash": config.hash, "policies": policies}
