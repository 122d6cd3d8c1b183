"""``lapse doctor``: everything lapse stands on, each with a level and a fix."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import click

from lapse import log
from lapse.cli import output
from lapse.cli.context import Invocation, RegistryAccess, confirmed
from lapse.cli.doctor import running
from lapse.cli.doctor.accounts import account as asked
from lapse.cli.doctor.canary import canary as sent
from lapse.cli.doctor.erasures import erasures
from lapse.cli.doctor.server import server
from lapse.cli.exit_codes import Code
from lapse.cli.inprocess import context_of
from lapse.cli.options import config_option, confirm_option, json_option, provider_option
from lapse.errors import ConfigError, LapseError
from lapse.guards.integrity.preflight import Finding, Level
from lapse.metrics.erasures import standing
from lapse.policy.reload import ConfigFile, broker_source, find
from lapse.providers.account import Account
from lapse.providers.provider import Provider
from lapse.providers.throttle import Throttle

WORDS = {Level.OK: "ok", Level.WARNING: "warn", Level.FATAL: "fail", Level.UNKNOWN: "unknown"}
STYLES = {Level.OK: output.GOOD, Level.WARNING: output.WARN, Level.FATAL: output.BAD, Level.UNKNOWN: output.WARN}
TIMEOUT = 10.0
"""Seconds for one answer of a provider."""


@click.command()
@click.option(
    "--canary", is_flag=True, help="Also create an empty object of each kind that can be, and delete it twice."
)
@confirm_option
@provider_option
@config_option
@json_option
def doctor(*, canary: bool, confirm: str | None, provider: str | None, config: str | None, as_json: bool) -> int:
    """Look at the config, Redis, the broker, beat, the workers and every provider, and say what to mend.

    Nothing is changed. Each provider is sent one request that lists or reads and counts in its budget.

    --canary, which has to be confirmed, creates an empty conversation, thread or vector store, as the policies name
    them, deletes it, and deletes it again: the key may delete, and its words for what is gone are known.

    The exit code is 0 if nothing failed, 2 for the config, 4 if something does not answer, and 5 for all else that
    fails. Warnings, and what could not be found out, do not change it.

    Examples:
      lapse doctor
      lapse doctor --json
      lapse doctor --provider openai
      lapse doctor --canary --confirm=openai

    """
    log.configure("ERROR")
    session = Invocation(config, provider or confirm)
    try:
        if canary:
            confirmed(session.provider, confirm, "create an empty object of each kind there and delete it")
        findings = [running.config(ConfigFile(find(session.environ, Path.cwd()), session.environ))]
        findings.append(running.outbox(session.config, session.environ))
        findings.append(running.spool(session.namespace))
        findings += session.run(lambda access: _registry(access, session))
        if canary and findings[3].name != "server":
            findings += session.run(lambda access: _canaries(access, session))
    except ConfigError as error:
        findings = [Finding("config", Level.FATAL, str(error), "lapse check-config says all that is wrong")]
        _tell(findings, as_json=as_json)
        return Code.USAGE
    _tell(findings, as_json=as_json)
    return _code(findings)


async def _registry(access: RegistryAccess, session: Invocation) -> list[Finding]:
    findings = await server(access.carrier, session.config)
    up = findings[0].name != "server"
    if up:
        view, used = session.view, session.config
        published, now = view.published(), view.now()
        findings += running.broker(used, broker_source(used, session.environ))
        findings += [running.beat(used, published, now), *running.workers(used, view, published, now)]
        findings += [
            running.sweeps(session.client, used, now),
            running.audit(view, used),
            erasures(standing(session.client, session.namespace), used, now),
            *running.flows(view, used, now),
            *running.observing(view, used),
        ]
    return findings + list(await asyncio.gather(*(_account(access, session, one, up=up) for one in _accounts(session))))


def _accounts(session: Invocation) -> Iterator[Account]:
    named = session.named_provider
    if named is not None and named not in session.config.accounts:
        raise ConfigError(f"{session.config.path} has no provider {named}: it has {', '.join(session.config.accounts)}")
    yield from (account for name, account in session.config.accounts.items() if named in {None, name})


async def _account(access: RegistryAccess, session: Invocation, account: Account, *, up: bool) -> Finding:
    rules = [rule for rule in session.config.rules if rule.partition.provider == account.name]
    try:
        async with Provider(account, session.environ, timeout=TIMEOUT) as provider:
            throttle = Throttle(access.carrier, session.namespace, account) if up else None
            return await asked(provider, rules, access.ledger if up else None, throttle)
    except LapseError as error:
        return Finding(f"provider {account.name}", Level.FATAL, str(error), "correct its table in the policy file")


async def _canaries(access: RegistryAccess, session: Invocation) -> list[Finding]:
    """Send a canary of each kind that the provider's policies name and that can be made empty."""
    name = session.provider
    async with context_of(access, session, name) as context:
        named = {rule.partition.kind for rule in session.config.rules if rule.partition.provider == name}
        kinds = [kind for kind in context.provider.kinds.values() if kind.name in named and kind.create is not None]
        if not kinds:
            detail = f"none of the kinds that its policies name can be made empty: {', '.join(sorted(named)) or 'none'}"
            return [Finding(f"canary {name}", Level.UNKNOWN, detail)]
        return [await sent(context, kind) for kind in kinds]


def _tell(findings: list[Finding], *, as_json: bool) -> None:
    if as_json:
        worst = [level for level in (Level.FATAL, Level.WARNING, Level.UNKNOWN) if level in {f.level for f in findings}]
        output.document({"level": WORDS[worst[0] if worst else Level.OK], "findings": [_plain(f) for f in findings]})
        return
    for finding in findings:
        output.say(f"{WORDS[finding.level]:<7} {finding.name}: {finding.detail}", STYLES[finding.level])
        if finding.fix and finding.level is not Level.OK:
            output.say(f"-> {finding.fix}", output.STRONG, indent=8)


def _plain(finding: Finding) -> dict[str, str]:
    said = {"name": finding.name, "level": WORDS[finding.level], "detail": finding.detail}
    return {**said, "fix": finding.fix} if finding.level is not Level.OK and finding.fix else said


def _code(findings: list[Finding]) -> int:
    failed = {finding.name for finding in findings if finding.level is Level.FATAL}
    if "config" in failed:
        return Code.USAGE
    if failed & {"server", "broker"}:
        return Code.TEMPORARY
    return Code.PARTIAL if failed else Code.OK
