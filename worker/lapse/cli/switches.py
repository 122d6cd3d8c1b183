"""``lapse pause`` and ``resume``: the operators' switch, and the answer to halts that carry no plan."""

from collections.abc import Iterator
from pathlib import Path

import click

from lapse import keys
from lapse.cli import output, wording
from lapse.cli.arguments import config_option
from lapse.cli.codes import Code, Refused
from lapse.cli.reasons import answer, unpause
from lapse.cli.session import Hands, Session
from lapse.control import Halt
from lapse.errors import ConfigError
from lapse.guard import STANDING
from lapse.kinds import singular
from lapse.policy import Account

EVERYTHING = "*"
SCOPE = "SCOPE is a provider, PROVIDER/KIND or PROVIDER/KIND/POLICY; without one it is everything."


@click.command()
@click.argument("scope", required=False)
@click.option("--reason", metavar="TEXT", default="no reason given", help="Why; shown to whoever asks.")
@config_option
def pause(*, scope: str | None, reason: str, config: str | None) -> int:
    """Stop deleting: everywhere, or in one scope. What is in flight ends within seconds.

    SCOPE is a provider, PROVIDER/KIND or PROVIDER/KIND/POLICY; without one it is everything.

    Examples:
      lapse pause --reason "provider maintenance"
      lapse pause openai/conversations --reason "looking at a complaint"

    """
    session = Session(config)
    chosen = _scope(session, scope)
    session.run(lambda hands: hands.control.pause(chosen, reason))
    output.say(f"paused {_called(chosen)}")
    output.note(f"Nothing is deleted there until: {unpause(chosen)}")
    return Code.OK


@click.command()
@click.argument("scope", required=False)
@click.option("--reason", metavar="TEXT", help="Answer halts, and why that is right; it stands in the audit.")
@config_option
def resume(*, scope: str | None, reason: str | None, config: str | None) -> int:
    """Take pauses back; with --reason, answer halts that carry no plan.

    SCOPE is a provider, PROVIDER/KIND or PROVIDER/KIND/POLICY. Without one, every pause is taken back, or every
    halt answered. Halts that carry a plan are answered by `lapse approve`.

    Examples:
      lapse resume
      lapse resume openai/conversations
      lapse resume --reason "the key was of another project; mended"

    """
    session = Session(config)
    chosen = _scope(session, scope) if scope else None
    if reason is None:
        return session.run(lambda hands: _unpause(hands, session, chosen))
    return session.run(lambda hands: _lift(hands, session, chosen, reason))


async def _unpause(hands: Hands, session: Session, scope: str | None) -> int:
    pauses = await hands.control.pauses()
    wanted = sorted(pauses) if scope is None else [scope]
    for one in wanted:
        if await hands.control.unpause(one):
            output.say(f"resumed {_called(one)}")
            output.note(f"It was paused by {pauses[one]['actor']}: {pauses[one]['reason']}", output.DIM)
        else:
            output.note(f"{_called(one)} was not paused.", output.WARN)
    if not wanted:
        output.note("Nothing was paused.")
    for one in sorted(set(pauses) - set(wanted)):
        output.note(f"{_called(one)} is still paused: {unpause(one)}", output.WARN)
    for halt in await hands.control.halts(await session.slots(hands)):
        output.note(f"{_where(halt)} is still halted ({halt.reason}): {answer(halt.reason, halt.plan)}", output.WARN)
    return Code.OK


async def _lift(hands: Hands, session: Session, scope: str | None, reason: str) -> int:
    halts = [halt for halt in await hands.control.halts(await session.slots(hands)) if _covers(scope, halt)]
    left = 0
    for halt in halts:
        if halt.plan or halt.reason in STANDING:
            left += 1
            output.note(f"{_where(halt)} stays halted: {halt.reason}: {halt.detail}", output.WARN)
            output.note(f"  {answer(halt.reason, halt.plan)}")
            continue
        if halt.reason == "no_witness":
            await _prove(hands, session, halt)
        if halt.reason == "config_divergence":
            await _reconcile(hands, halt)
        await hands.control.lift(halt, reason)
        output.say(f"resumed {_where(halt)}: {halt.reason}")
    if not halts:
        output.note("Nothing was halted.")
    for one in sorted(await hands.control.pauses()):
        output.note(f"{_called(one)} is still paused: {unpause(one)}", output.WARN)
    return Code.HALTED if left else Code.OK


async def _prove(hands: Hands, session: Session, halt: Halt) -> None:
    """Record that this account looks at the right place: what the provider does not know is gone, for 24 h."""
    account = session.config.accounts.get(halt.provider)
    if account is None:
        raise ConfigError(f"{session.config.path} has no provider {halt.provider!r}: run this with the workers' file")
    _needs_key(session, account)
    from lapse.providers import Provider  # noqa: PLC0415 - it loads the openai client, and a pause has to be quick

    async with Provider(account, session.environ) as provider:
        await hands.ledger.mark(halt.provider, halt.kind, f"proof|{provider.identity}", await hands.control.now())
    await hands.ledger.mark(halt.provider, halt.kind, f"unproven|{halt.policy}", 0)
    kinds = wording.plural(halt.kind)
    output.note(f"For 24 h, {kinds} that {halt.provider} does not know count as gone, with the key that is set here.")


def _needs_key(session: Session, account: Account) -> None:
    """Refuse without the key: the proof holds for one credential, and has to be that of the workers."""
    name = account.api_key_env
    if name and not session.environ.get(name):
        raise ConfigError(f"{name} is not set here: the answer holds for one key, so give the one that workers use")
    if account.api_key_file and not Path(account.api_key_file).is_file():
        raise ConfigError(f"{account.api_key_file} cannot be read here: the answer holds for the key in it")


async def _reconcile(hands: Hands, halt: Halt) -> None:
    """Let rules that were superseded be taken up again: whichever worker sweeps next decides."""
    rules = keys.partition(hands.ledger.namespace, halt.provider, halt.kind, halt.policy) + keys.RULES
    await hands.carrier.run([("HDEL", rules, "superseded")])
    output.note(f"{_where(halt)}: the rules of whichever worker sweeps next are in force. Give all of them one file.")


def _scope(session: Session, text: str | None) -> str:
    """Return a scope with its kind in singular.

    Raises:
        Refused: it names a provider that is not configured, or is no scope.

    """
    if text is None or text == EVERYTHING:
        return EVERYTHING
    provider, *rest = text.split("/")
    if provider not in session.config.accounts:
        raise Refused(Code.USAGE, f"scope {text!r}: {session.config.path} has {'/, '.join(session.config.accounts)}")
    if len(rest) > 2 or not all(rest):  # noqa: PLR2004 - kind and policy
        raise Refused(Code.USAGE, f"scope {text!r}: {SCOPE}")
    kind = [singular(word) for word in rest[:1]]
    return "/".join([provider, *kind, *_policy(session, rest)])


def _policy(session: Session, rest: list[str]) -> Iterator[str]:
    for name in rest[1:]:
        if name not in {rule.partition.policy for rule in session.config.rules}:
            output.note(f"No policy of {session.config.path} is called {name}.", output.WARN)
        yield name


def _covers(scope: str | None, halt: Halt) -> bool:
    if scope in {None, EVERYTHING}:
        return True
    parts = (scope or "").split("/")
    return parts == [halt.provider, halt.kind, halt.policy][: len(parts)]


def _called(scope: str) -> str:
    return "everything" if scope == EVERYTHING else scope


def _where(halt: Halt) -> str:
    return f"{halt.provider}/{halt.kind}" + ("" if halt.policy == EVERYTHING else f"/{halt.policy}")
