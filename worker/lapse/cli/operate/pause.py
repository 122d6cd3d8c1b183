"""``lapse pause`` and ``resume``: the operators' switch, and the answer to halts that carry no plan."""

from collections.abc import Awaitable, Callable, Collection
from functools import partial

import click

from lapse.cli import output
from lapse.cli.context import Invocation, RegistryAccess
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.inspect.reasons import unpause
from lapse.cli.operate.remedies import EVERYTHING, told, where
from lapse.cli.operate.resume import Consent, Resumption, called, lift, names, release
from lapse.cli.options import PROVIDER, REASON, SCOPE, config_option, json_option
from lapse.errors import LapseError
from lapse.ledger.halts.names import names_known
from lapse.providers.kinds import singular

SCOPES = "SCOPE is a provider, PROVIDER/KIND or PROVIDER/KIND/POLICY; without one it is everything."


@click.command()
@click.argument("scope", type=SCOPE, required=False)
@click.option("--reason", type=REASON, metavar="TEXT", default="no reason given", help="Why; shown to whoever asks.")
@config_option
@json_option
def pause(*, scope: str | None, reason: str, config: str | None, as_json: bool) -> None:
    """Stop deleting: everywhere, or in one scope. What is in flight ends within seconds.

    SCOPE is a provider, PROVIDER/KIND or PROVIDER/KIND/POLICY; without one it is everything. A policy that was
    renamed is paused under every name, whichever is given.

    Examples:
      lapse pause --reason "provider maintenance"
      lapse pause openai/conversations --reason "looking at a complaint"

    """
    session = Invocation(config)
    asked = _scope(session, scope)
    chosen = session.run(lambda access: _pause(access, session, asked, reason))
    if as_json:
        output.document({"scope": chosen, "reason": reason, "resume": unpause(chosen)})
    else:
        output.say(f"paused {called(chosen)}")
    output.note(f"Nothing is deleted there until: {unpause(chosen)}")


@click.command()
@click.argument("scope", type=SCOPE, required=False)
@click.option(
    "--reason", type=REASON, metavar="TEXT", help="Answer halts, and why that is right; it stands in the audit."
)
@click.option(
    "--confirm",
    type=PROVIDER,
    metavar="PROVIDER",
    multiple=True,
    help="Confirm what gives ids up, by the name of each provider.",
)
@click.option("--moved-to", metavar="NAME", help="Go on with a registry that was moved there: `lapse export --to`.")
@click.option(
    "--provider", type=PROVIDER, metavar="NAME", help="End what keeps requests from it: a Retry-After, open breakers."
)
@config_option
@json_option
def resume(
    *, scope: str | None, reason: str | None, confirm: tuple[str, ...], as_json: bool, **given: str | None
) -> int:
    """Take pauses back; with --reason, answer halts that carry no plan; with --provider, end its Retry-After.

    SCOPE is a provider, PROVIDER/KIND or PROVIDER/KIND/POLICY. Without one, every pause is taken back, or every
    halt answered. Halts that carry a plan are answered by `lapse approve`. An answer that gives ids up says how many,
    and has to be confirmed; `lapse status` shows the one that loses nothing first.

    Examples:
      lapse resume
      lapse resume openai/conversations
      lapse resume openai --reason "the threads were deleted by hand" --confirm=openai
      lapse resume --provider openai

    """
    session, done = Invocation(given["config"]), Resumption(as_json)
    if (provider := given["provider"]) is not None:
        account = _account(session, scope, provider)
        return _resume(session, done, partial(release, session=session, provider=account, reason=reason, done=done))
    chosen = _scope(session, scope) if scope else None
    if reason is None:
        return _resume(session, done, partial(_unpause, session=session, scope=chosen, done=done))
    said = Consent(reason, frozenset(confirm), given["moved_to"])
    return _resume(session, done, partial(lift, session=session, scope=chosen, said=said, done=done))


def _resume(session: Invocation, done: Resumption, work: Callable[[RegistryAccess], Awaitable[int]]) -> int:
    async def whole(access: RegistryAccess) -> int:
        try:
            code = await work(access)
        except LapseError:
            if done.as_json and done.resumed:
                output.document(await done.described(access, session))
            raise
        if done.as_json:
            output.document(await done.described(access, session))
        return code

    return session.run(whole)


async def _pause(access: RegistryAccess, session: Invocation, scope: str, reason: str) -> str:
    """Pause a scope under every name of its policy; return the one that it has now.

    Raises:
        Refused: neither the file nor the registry has such a policy.

    """
    await access.lasting()
    found = await names(access, session, scope, stop=True)
    if not found:
        raise Refused(Code.USAGE, await _unknown(access, session, scope))
    for one in found:  # a worker that has not heard of the new name goes by the old one
        await access.control.pause(one, reason, slots=await session.slots(access))
    if found[0] != scope:
        output.note(f"{scope} is called {found[0]} now.")
    return found[0]


async def _unknown(access: RegistryAccess, session: Invocation, scope: str) -> str:
    provider, kind, policy = scope.split("/")
    there = {
        at.policy
        for at in (rule.partition for rule in session.config.rules)
        if (at.provider, at.kind) == (provider, kind)
    }
    there |= (await names_known(access.carrier, session.namespace, (provider, kind))).keys()
    known = ", ".join(sorted(there)) or "none of this kind"
    return f"scope {scope!r}: no policy is called {policy}; {session.config.path} and the registry have {known}"


async def _unpause(access: RegistryAccess, session: Invocation, scope: str | None, done: Resumption) -> int:
    pauses = await access.control.pauses()
    wanted = sorted(pauses) if scope is None else await _standing(access, session, scope, pauses)
    for one in wanted:
        if await access.control.unpause(one, slots=await session.slots(access)):
            done.ended(one, "pause", f"resumed {called(one)}", why=pauses[one]["reason"])
            output.note(f"It was paused by {pauses[one]['actor']}: {pauses[one]['reason']}", output.DIM)
        else:
            output.note(f"{called(one)} was not paused.", output.WARN)
    if not wanted:
        output.note("Nothing was paused.")
    for one in sorted(set(pauses) - set(wanted)):
        output.note(f"{called(one)} is still paused: {unpause(one)}", output.WARN)
    for halt in await access.control.halts(await session.slots(access)):
        output.note(f"{where(halt)} is still halted: {halt.reason}: {halt.detail}", output.WARN)
        for text in told(halt):
            output.note(text)
    return Code.OK


async def _standing(access: RegistryAccess, session: Invocation, scope: str, pauses: Collection[str]) -> list[str]:
    """Return the pauses on a scope under every name of its policy, the present one last; without any, the scope."""
    found = await names(access, session, scope)
    if not found:
        output.note(f"No policy of {session.config.path} and the registry is called {scope}.", output.WARN)
    return [one for one in reversed(found) if one in pauses] or [scope]


def _account(session: Invocation, scope: str | None, provider: str) -> str:
    """Return the provider whose requests are to go on.

    Raises:
        Refused: it is not configured, or a scope stands beside it.

    """
    if scope is not None:
        raise Refused(Code.USAGE, "give a scope, for pauses and halts, or --provider, for a Retry-After and breakers")
    if provider not in session.config.accounts:
        raise Refused(Code.USAGE, f"{session.config.path} has no provider {provider}")
    return provider


def _scope(session: Invocation, text: str | None) -> str:
    """Return a scope with its kind in singular.

    Raises:
        Refused: it names a provider that is not configured, or is no scope.

    """
    if text is None or text == EVERYTHING:
        return EVERYTHING
    provider, *rest = text.split("/", 2)
    if provider not in session.config.accounts:
        raise Refused(Code.USAGE, f"scope {text!r}: {session.config.path} has {'/, '.join(session.config.accounts)}")
    if not all(rest) or any("/" in name for name in rest):
        raise Refused(Code.USAGE, f"scope {text!r}: {SCOPES}")
    kind = [singular(word) for word in rest[:1]]
    return "/".join([provider, *kind, *rest[1:]])
