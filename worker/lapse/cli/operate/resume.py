"""What ``lapse resume --reason`` does: the answer to halts that carry no plan, each by what it means."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lapse import durations
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, confirmed
from lapse.cli.exit_codes import Code
from lapse.cli.inspect.costs import given_up, needless
from lapse.cli.inspect.reasons import unpause
from lapse.cli.operate.remedies import EVERYTHING, remedy, risky, told, where
from lapse.errors import ConfigError
from lapse.guards.integrity import clocks
from lapse.guards.integrity.protection import accept
from lapse.guards.listing import take_as_it_is
from lapse.guards.operator_proof import accept_refused, believe
from lapse.ledger.halts import Halt
from lapse.ledger.halts.names import lineage, names_known
from lapse.ledger.reasons import EVERYWHERE, UNANSWERED, HaltReason
from lapse.providers.account import Account
from lapse.registry import keys
from lapse.registry.model import Partition

ACCEPTED: dict[str, str] = {
    HaltReason.REGISTRY_LOST: "The registry that workers knew is given up: what was registered there and is not"
    " registered again is known to nobody, and will never be deleted. `lapse register --from FILE` replays an"
    " application's log. Orphans wait until this registry is older than their min_age.",
    HaltReason.REGISTRY_ROLLED_BACK: "What was registered, touched, held or forgotten after that state is not in this"
    " registry: `lapse register --from FILE` replays an application's log. What was deleted since is due again, and"
    " settles as already gone. Orphans wait until their min_age from now.",
    HaltReason.MOVED: "The ids of this registry are decided about here again, and by the other one too as long as its"
    " workers run: what that one heard since the move is not known here.",
    HaltReason.CLOCK_JUMPED: "The clock of this Redis decides again what is due, as it stands now.",
}
"""What it means to go on after a halt of everything: what is lost, and what comes back."""


@dataclass(frozen=True, slots=True)
class Consent:
    """What an operator said: why, the providers that it was confirmed for, and where the registry was moved to."""

    reason: str
    confirmed: frozenset[str] = frozenset()
    moved_to: str | None = None


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a resume ended: said line by line as it happens, or kept for one JSON document."""

    as_json: bool
    resumed: list[dict[str, Any]] = field(default_factory=list)

    def ended(self, scope: str, what: str, line: str, **facts: str | float) -> None:
        """Say or keep what ended in a scope: a ``pause``, ``halt``, ``breaker`` or ``retry_after``."""
        self.resumed.append({"scope": scope, "ended": what, **facts})
        if not self.as_json:
            output.say(line)

    async def described(self, access: RegistryAccess, session: Invocation) -> dict[str, Any]:
        """Return what ended, and what still stands in the way, with the lines that answer it."""
        halts = await access.control.halts(await session.slots(access))
        return {
            "resumed": self.resumed,
            "paused": {scope: unpause(scope) for scope in sorted(await access.control.pauses())},
            "halted": [
                {
                    "scope": where(halt),
                    "reason": halt.reason,
                    "detail": halt.detail,
                    "plan": halt.plan,
                    "answers": list(told(halt)),
                }
                for halt in halts
            ],
        }


async def lift(access: RegistryAccess, session: Invocation, scope: str | None, said: Consent, done: Resumption) -> int:
    """Answer every halt of a scope that this can answer, and say what it means; return the exit code."""
    scopes = {scope, *(await names(access, session, scope) if scope else ())}
    halts = _once(
        [halt for halt in await access.control.halts(await session.slots(access)) if _covers(scopes, halt)], session
    )
    left = {halt: Code.HALTED for halt in halts if await _stays(access, session, halt, scope, said)}
    left |= await _unconfirmed(access, session, [halt for halt in halts if halt not in left], said)
    answered = [halt for halt in halts if halt not in left]
    for cause in sorted({halt.reason for halt in answered} & EVERYWHERE):
        await access.control.accept(cause)
        output.note(ACCEPTED[cause])
    for halt in answered:
        await _answer(access, session, halt)
        await access.control.lift(halt, said.reason)
        done.ended(where(halt), "halt", f"resumed {where(halt)}: {halt.reason}", reason=halt.reason)
    breakers = [name for name in session.config.accounts if _within(scope, name) and await access.control.retry(name)]
    for name in breakers:
        done.ended(name, "breaker", f"{name}: its breaker lets the next request through")
    opened = await _kinds(access, [slot for slot in await session.slots(access) if _within(scope, slot[0])], done)
    if not halts and not breakers and not opened:
        output.note("Nothing was halted.")
    for one in sorted(await access.control.pauses()):
        output.note(f"{called(one)} is still paused: {unpause(one)}", output.WARN)
    return max(left.values(), default=Code.OK)


def _once(halts: Sequence[Halt], session: Invocation) -> list[Halt]:
    """Leave out what stands under an old name of a policy of the file and under its own: it ends with that."""
    own = {rule.partition for rule in session.config.rules}
    mine = [halt for halt in halts if Partition(halt.provider, halt.kind, halt.policy) in own]
    return [halt for halt in halts if halt in mine or halt not in [replace(one, policy=halt.policy) for one in mine]]


async def release(
    access: RegistryAccess, session: Invocation, provider: str, reason: str | None, done: Resumption
) -> int:
    """End what keeps requests from one provider: a Retry-After, its breaker, those of its kinds."""
    slots, key = await session.slots(access), keys.throttle(session.namespace, provider)
    until, _ = await access.carrier.run([("HGET", key, "blocked_until"), ("HDEL", key, "blocked_until")])
    waited = max(0, int(until or 0) - await access.control.now())
    if waited:
        early = durations.show(max(1, waited // 1000))
        line = f"{provider}: its Retry-After ended, {early} before its time"
        done.ended(provider, "retry_after", line, seconds=waited / 1000)
    breaker = await access.control.retry(provider)
    if breaker:
        done.ended(provider, "breaker", f"{provider}: its breaker lets the next request through")
    opened = await _kinds(access, [slot for slot in slots if slot[0] == provider], done)
    if not waited and not breaker and not opened:
        output.note(f"Nothing kept requests from {provider}.")
        return Code.OK
    for slot in slots:
        if slot[0] == provider:
            await access.control.record(Partition(*slot, EVERYTHING), "unblocked", why=reason or "no reason given")
    return Code.OK


async def _kinds(access: RegistryAccess, slots: Sequence[tuple[str, str]], done: Resumption) -> list[tuple[str, str]]:
    """Let the next attempt of every kind through whose own breaker is open; return these (provider, kind)."""
    opened = []
    for provider, kind in slots:
        key = keys.slot(access.ledger.namespace, provider, kind) + keys.MARKS
        (since,) = await access.carrier.run([("HGET", key, "shut_since")])
        if since is not None:
            await access.carrier.write(("HSET", key, "shut_until", 0))
            at = f"{provider}/{kind}"
            done.ended(at, "breaker", f"{at}: its breaker lets the next request through")
            opened.append((provider, kind))
    return opened


async def _stays(access: RegistryAccess, session: Invocation, halt: Halt, scope: str | None, said: Consent) -> bool:
    """Return True, and say why, if this is not how a halt is answered, or it needs no answer any more."""
    if why := await needless(access, session, halt):
        output.note(f"{where(halt)}: {halt.reason} needs no answer: {why}. The next sweep ends this halt.", output.WARN)
        return True
    part = scope not in {None, EVERYTHING} and halt.reason in EVERYWHERE
    astray = await _astray(access, session, halt) if halt.reason == HaltReason.CLOCK_JUMPED and not part else None
    unnamed = halt.reason == HaltReason.MOVED and said.moved_to != await access.control.moved()
    if not (halt.plan or halt.reason in UNANSWERED or part or astray or unnamed):
        return False
    output.note(f"{where(halt)} stays halted: {halt.reason}: {astray or halt.detail}", output.WARN)
    for text in told(halt):
        output.note(text)
    return True


async def _unconfirmed(
    access: RegistryAccess, session: Invocation, halts: Sequence[Halt], said: Consent
) -> dict[Halt, Code]:
    """Return the halts whose answer gives ids up and was not confirmed; where somebody can be asked, ask.

    Raises:
        Refused: asked, and another name was typed; nothing was done.

    """
    costs = {halt: await given_up(access, session, halt) for halt in halts if risky(halt)}
    unsure = {halt for halt in costs if halt.provider not in said.confirmed}
    if unsure and output.can_ask():
        for name in sorted({halt.provider for halt in unsure}):
            ids = sum(costs[halt] for halt in unsure if halt.provider == name)
            confirmed(name, None, f"go on there and give up {formatting.count(ids, 'id')}")
        return {}
    # What halts everything is answered for everything, or not at all.
    causes = {halt.reason for halt in unsure} & EVERYWHERE
    unsure |= {halt for halt in costs if halt.reason in causes}
    for halt in sorted(unsure, key=where):
        what = remedy(halt.reason).gives_up
        output.note(f"{where(halt)} stays halted: {halt.reason}: {halt.detail}", output.WARN)
        for text in told(halt):
            output.note(text)
        cost = formatting.count(costs[halt], "id")
        output.note(f"Not confirmed: to go on gives up {cost}: {what}. Confirm by the provider's name.")
    return dict.fromkeys(unsure, Code.CONFIRM)


async def _astray(access: RegistryAccess, session: Invocation, halt: Halt) -> str | None:
    """Return why the clock of Redis cannot be taken for right: it is far from this host's and from the provider's."""
    if clocks.right(await access.control.now(), (clocks.wall(),)):
        return None
    account = session.config.accounts.get(halt.provider)
    date = await _date(session, account, halt.kind) if account else None
    if date is not None and clocks.right(await access.control.now(), (date,)):
        return None
    says = "nor near the provider's" if date else "and the provider cannot be asked which of them is right"
    return f"Redis TIME is not near this host's clock, {says}: put it right first"


async def _date(session: Invocation, account: Account, kind: str) -> int | None:
    from lapse.providers.provider import Provider

    async with Provider(account, session.environ) as provider:
        return await clocks.asked(provider, provider.kinds[kind]) if kind in provider.kinds else None


async def _answer(access: RegistryAccess, session: Invocation, halt: Halt) -> None:
    """Take what the halt was about for right."""
    if halt.reason == HaltReason.NO_WITNESS:
        await _believe(access, session, halt)
    if halt.reason == HaltReason.GONE_WALL:
        await _begin_window_anew(access, session, halt)
    if halt.reason == HaltReason.PRINCIPAL_UNPROVEN:
        await _accept_principals(access, halt)
    if halt.reason == HaltReason.CONFIG_DIVERGENCE:
        await _reconcile(access, halt)
    if halt.reason == HaltReason.IDENTITY_CHANGED:
        await _settle(access, session, halt)
    at = Partition(halt.provider, halt.kind, halt.policy)
    if halt.reason == HaltReason.REGISTRY_DAMAGED:
        rule = session.rule_for(at)
        await accept(access.ledger, access.control, at, rule.formerly if rule else ())
    if halt.reason == HaltReason.LISTING_SHRUNK:
        await take_as_it_is(access.carrier, session.namespace, at)


async def _settle(access: RegistryAccess, session: Invocation, halt: Halt) -> None:
    """Take the account of this policy file for the one whose ids are registered."""
    key = keys.slot(access.ledger.namespace, halt.provider, halt.kind) + keys.MARKS
    account = _account(session, halt)
    await access.carrier.write(("HSET", key, "place", account.place))
    output.note(f"The {formatting.plural(halt.kind)} of {halt.provider} are at {account.base_url} from now on.")


async def _believe(access: RegistryAccess, session: Invocation, halt: Halt) -> None:
    """Take the ids that were not found, and wait, for gone: under this credential, and no others."""
    account = _account(session, halt)
    _needs_key(session, account)
    from lapse.providers.provider import Provider

    async with Provider(account, session.environ) as provider:
        identity = await provider.identity()
    found = 0
    for at in await _partitions(access, session, halt):
        found += await believe(access.ledger, at, identity)
        await access.ledger.mark(halt.provider, halt.kind, f"unproven|{at.policy}", 0)
    kinds = formatting.plural(halt.kind)
    output.note(
        f"{found:,} {kinds} that {halt.provider} did not find, and no others, settle as already gone the next time that"
        " it does not find them with the key that is set here."
    )


async def _begin_window_anew(access: RegistryAccess, session: Invocation, halt: Halt) -> None:
    """Let the next answers of a policy be counted from none."""
    for at in await _partitions(access, session, halt):
        await access.carrier.run([("HDEL", session.key_of(at, keys.RULES), "wall", "wall_since")])


async def _partitions(access: RegistryAccess, session: Invocation, halt: Halt) -> list[Partition]:
    """Return where a policy's ids stand: under its name, and still under those that it had."""
    at = Partition(halt.provider, halt.kind, halt.policy)
    if halt.policy == EVERYTHING:
        return [at]
    return [Partition(*name.split("/")) for name in await names(access, session, str(at)) or [str(at)]]


async def _accept_principals(access: RegistryAccess, halt: Halt) -> None:
    """Believe the answers that refused credentials get from now on."""
    accepted = await accept_refused(access.ledger, halt.provider, halt.kind)
    output.note(f"{formatting.count(len(accepted), 'credential')} of {halt.provider} will be believed from now on.")


def _account(session: Invocation, halt: Halt) -> Account:
    account = session.config.accounts.get(halt.provider)
    if account is None:
        raise ConfigError(f"{session.config.path} has no provider {halt.provider!r}: run this with the workers' file")
    return account


def _needs_key(session: Invocation, account: Account) -> None:
    """Refuse without the key: the proof holds for one credential, and has to be that of the workers."""
    name = account.api_key_env
    if name and not session.environ.get(name):
        raise ConfigError(f"{name} is not set here: the answer holds for one key, so give the one that workers use")
    if account.api_key_file and not Path(account.api_key_file).is_file():
        raise ConfigError(f"{account.api_key_file} cannot be read here: the answer holds for the key in it")


async def _reconcile(access: RegistryAccess, halt: Halt) -> None:
    """Let rules that were superseded be taken up again: whichever worker sweeps next decides."""
    rules = keys.partition(access.ledger.namespace, halt.provider, halt.kind, halt.policy) + keys.RULES
    await access.carrier.run([("HDEL", rules, "superseded")])
    output.note(f"{where(halt)}: the rules of whichever worker sweeps next are in force. Give all of them one file.")


async def names(access: RegistryAccess, session: Invocation, scope: str, *, stop: bool = False) -> list[str]:
    """Return a scope under every name of its policy, the one that it has now first; none if nothing knows the name.

    A name that was taken over is the other policy's, as the file and the rules in force say. Where these differ, and
    the file has another policy of that name, what is to ``stop`` counts for both, what is to go on for the one alone.
    """
    provider, kind, policy = (*scope.split("/"), "", "")[:3]
    if not policy:
        return [scope]
    rules = [
        rule for rule in session.config.rules if (rule.partition.provider, rule.partition.kind) == (provider, kind)
    ]
    taken = await names_known(access.carrier, session.namespace, (provider, kind), policy)
    taken |= {old: rule.partition.policy for rule in rules for old in rule.formerly}
    own = {rule.partition.policy for rule in rules}
    now = {name: lineage(name, taken)[-1] for name in {policy, *taken, *own}}
    also = sorted(name for name in now if now[name] == now[policy] and name not in {policy, now[policy]})
    others = set() if stop else own - {policy if policy in own else now[policy]}
    found = [name for name in dict.fromkeys((now[policy], policy, *also)) if name not in others]
    return [f"{provider}/{kind}/{name}" for name in found if policy in own | taken.keys()]


def _within(scope: str | None, provider: str) -> bool:
    return scope in {None, EVERYTHING, provider}


def _covers(scopes: Collection[str | None], halt: Halt) -> bool:
    at = [halt.provider, halt.kind, halt.policy]
    return any(scope in {None, EVERYTHING, "/".join(at[: len((scope or "").split("/"))])} for scope in scopes)


def called(scope: str) -> str:
    """Return a scope as a person says it."""
    return "everything" if scope == EVERYTHING else scope
