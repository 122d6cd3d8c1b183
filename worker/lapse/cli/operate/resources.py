"""What an application says of a resource, said by hand: register, touch, hold, unhold, expire, forget."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from lapse import Answer, Registered, moments
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, with_session
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.operate import subjects
from lapse.cli.operate.replay import replay
from lapse.cli.options import (
    FUTURE,
    HAPPENED,
    ID,
    KIND,
    POLICY,
    SPAN,
    UNTIL,
    json_option,
    label,
    resource_arguments,
    resource_or_subject,
)
from lapse.cli.progress import progress
from lapse.registry.commands import Commands


@click.command()
@click.argument("kind", type=KIND, required=False)
@click.argument("id_", metavar="[ID]", type=ID, required=False)
@click.option("--policy", type=POLICY, metavar="NAME", help="The policy to track it under.")
@click.option("--uses", multiple=True, metavar="KIND:ID", help="What it refers to, which lives as long. Repeatable.")
@click.option("--subject", metavar="TEXT", help="Whose data it is.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label. Repeatable.")
@click.option("--expires-in", type=SPAN, metavar="DURATION", help="Its own expiry, from now.")
@click.option("--expires-at", type=FUTURE, metavar="TIME", help="Its own expiry, as a time.")
@click.option("--created-at", type=HAPPENED, metavar="TIME", help="When the provider made it, if not now.")
@click.option("--last-active-at", type=HAPPENED, metavar="TIME", help="When it was last used, if not now.")
@click.option(
    "--from",
    "file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Register every line of a JSONL file; - is stdin.",
)
@with_session
@json_option
def register(
    *,
    session: Invocation,
    kind: str | None,
    id_: str | None,
    policy: str | None,
    file: str | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Track an id under a policy; a tracked one is touched, and moved if the policy is another.

    FILE holds one JSON object a line with the fields of a registration, and nothing else; or it is the log in which
    lapse's logger wrote what an application could not register with on_error="log": JSON lines with the logger's
    name, or text lines that begin with time, level and logger. What anybody could have put into a log is refused.
    A text log into whose messages others can put line breaks is not to be registered from. Registering twice does
    no harm.

    Examples:
      lapse register conversation conv_68a1 --policy chat
      lapse register thread thread_abc --policy chat --created-at 2026-11-01T09:30Z --uses assistant:asst_1
      lapse register --from lost.jsonl

    """
    if file:
        if kind or id_:
            raise click.UsageError("--from FILE says everything itself: leave KIND and ID out")
        return _replayed(session, file, policy, as_json=as_json)
    if not kind or not id_ or not policy:
        raise click.UsageError("say what: lapse register KIND ID --policy NAME, or lapse register --from FILE")
    facts = given | {
        "uses": [_use(text) for text in given["uses"]],
        "labels": dict(map(label, given["labels"])) or None,
    }
    registered = session.registry.register(kind, id_, policy, **facts)
    _registered(session, id_, policy, registered, as_json=as_json)
    return Code.OK


@click.command()
@resource_arguments
@with_session
@json_option
def touch(*, kind: str, id_: str, session: Invocation, as_json: bool) -> int:
    """Move an id's last activity to now, as a use by the application does.

    Examples:
      lapse touch conversation conv_68a1

    """
    return _answered(session.registry.touch(kind, id_), id_, _TOUCH, as_json=as_json)


@click.command()
@resource_or_subject
@click.option("--reason", required=True, metavar="TEXT", help="Why it must not be deleted.")
@click.option("--until", type=UNTIL, metavar="TIME", help="When the hold ends by itself: a day is held to its end.")
@with_session
@json_option
def hold(
    *,
    kind: str,
    id_: str,
    subject: str | None,
    reason: str,
    until: datetime | None,
    session: Invocation,
    as_json: bool,
) -> int:
    """Forbid the deletion of an id, tracked or not, whatever any policy says.

    With --subject, of all that is a subject's, at every provider, and of what is registered later too.

    Examples:
      lapse hold conversation conv_77c0 --reason "case 2026-114"
      lapse hold conversation conv_77c0 --reason "case 2026-114" --until 90d
      lapse hold --subject user:42 --reason "case 2026-114"

    """
    if subject is not None:
        held = session.registry_of(None).hold_subject(subject, reason=reason, until=until)
        return subjects.answered(held, subject, subjects.HOLD, as_json=as_json)
    return _answered(session.registry.hold(kind, id_, reason=reason, until=until), id_, _HOLD, as_json=as_json)


@click.command()
@resource_or_subject
@with_session
@json_option
def unhold(*, kind: str, id_: str, subject: str | None, session: Invocation, as_json: bool) -> int:
    """Take a hold back: the id is due when it would have been without it.

    The hold of a subject and that of an id are two: neither ends the other.

    Examples:
      lapse unhold conversation conv_77c0
      lapse unhold --subject user:42

    """
    if subject is not None:
        let_go = session.registry_of(None).unhold_subject(subject)
        return subjects.answered(let_go, subject, subjects.UNHOLD, as_json=as_json)
    return _answered(session.registry.unhold(kind, id_), id_, _UNHOLD, as_json=as_json)


@click.command()
@resource_or_subject
@click.option("--at", type=FUTURE, metavar="TIME", help="When, if not now.")
@with_session
@json_option
def expire(*, kind: str, id_: str, subject: str | None, at: datetime | None, session: Invocation, as_json: bool) -> int:
    """Give an id an expiry of its own, now or at a time. A hold, a reference or a halt still keeps it.

    Examples:
      lapse expire conversation conv_68a1
      lapse expire conversation conv_68a1 --at 12h
      lapse expire --subject user:42

    """
    if subject is not None:
        expired = session.registry_of(None).expire_subject(subject, at)
        return subjects.answered(expired, subject, subjects.EXPIRE, as_json=as_json)
    return _answered(session.registry.expire(kind, id_, at), id_, _EXPIRE, as_json=as_json)


@click.command()
@resource_arguments
@click.option("--release", is_flag=True, help="Let go of what it uses too: it needs none of that any more.")
@with_session
@json_option
def forget(*, kind: str, id_: str, release: bool, session: Invocation, as_json: bool) -> int:
    """Stop tracking an id and delete nothing: it stays at the provider, and lapse leaves it alone.

    What it uses stays protected, because the object lives on; --release ends that, also for an id forgotten before.

    Examples:
      lapse forget conversation conv_68a1
      lapse forget thread thread_7d2e --release

    """
    return _answered(session.registry.forget(kind, id_, release=release), id_, _FORGET, as_json=as_json)


_LATE = "a deletion of {id} is under way: what you said is recorded, and no further attempt ignores it"
_UNREPLICATED = "it stands for {id}, and too few replicas have it: a failover may lose it; say it again"
_TOUCH = ("{id} was touched", "{id} is not tracked, so nothing was touched; lapse register tracks it", False)
_HOLD = ("{id} is held", "{id} is held; it is not tracked", True)
_UNHOLD = ("{id} is no longer held", "{id} was not held", True)
_EXPIRE = (
    "{id} has an expiry of its own",
    "{id} is not tracked, so nothing can expire; lapse register tracks it",
    False,
)
_FORGET = ("{id} is no longer tracked", "{id} was not tracked; it will be left alone", True)


def _answered(answer: Answer, id_: str, said: tuple[str, str, bool], *, as_json: bool) -> int:
    """Say what became of a call; one that could not take effect ends with PARTIAL."""
    ok, unknown, unknown_is_fine = said
    if as_json:
        output.document({"id": id_, "answer": str(answer)})
    else:
        output.say(str(answer))
    text = {Answer.OK: ok, Answer.UNKNOWN: unknown, Answer.UNREPLICATED: _UNREPLICATED}.get(answer, _LATE)
    output.note(text.format(id=id_), "" if answer is Answer.OK else output.WARN)
    done = answer is Answer.OK or (answer is Answer.UNKNOWN and unknown_is_fine)
    return Code.OK if done else Code.PARTIAL


_GOVERNED = {
    "ttl": "its policy",
    "max_age": "the policy's max_age",
    "expires_at": "its own expiry",
    "orphan": "due once nothing uses it",
    "hold": "held",
    "claimed": "a deletion of it is under way",
    "unmanaged": "no worker manages this policy, so nothing deletes it",
}


def _registered(session: Invocation, id_: str, policy: str, registered: Registered, *, as_json: bool) -> None:
    due = moments.clock(registered.due) if registered.due else "never"
    if as_json:
        stored = asdict(registered) | {"due": registered.due.isoformat() if registered.due else None}
        output.document({"id": id_, "policy": policy, **stored})
        return
    output.say(f"{'registered' if registered.new else 'touched'}: due {due} ({_GOVERNED[registered.governed_by]})")
    known = {rule.partition.policy for rule in session.config.rules} if session.configured else set()
    if not registered.managed and policy in known:
        output.note("No worker has taken the policy file up yet: start one, and the id is managed.", output.WARN)


def _replayed(session: Invocation, file: str, policy: str | None, *, as_json: bool) -> int:
    size = 0 if file == "-" else Path(file).stat().st_size
    provider = session.default_provider
    with click.open_file(file, "rb") as lines, progress("registering", size, "lines", quiet=as_json) as advance:
        told = replay(session.registry_of(provider), Commands(session.namespace, provider), lines, policy, advance)
    if as_json:
        output.document(told.as_json())
    else:
        output.say(f"{told.registered:,} registered, {told.new:,} new, {told.unmanaged:,} unmanaged")
    for problem in told.problems:
        output.note(f"{file}:{problem}", output.WARN)
    if told.more:
        output.note(f"{file}: {told.more:,} more lines like these", output.WARN)
    for what, number in sorted(told.skipped.items()):
        output.note(f"{file}: {formatting.count(number, 'line')} left out: {what}", output.DIM)
    if told.nothing:
        why = "no line is a registration: write one JSON object a line; lapse import takes CSV"
        raise Refused(Code.PARTIAL, f"{file}: {why}")
    if told.problems:
        raise Refused(
            Code.PARTIAL, f"{told.refused:,} of {told.refused + told.registered:,} registrations were refused"
        )
    return Code.OK


def _use(text: str) -> tuple[str, ...]:
    kind, colon, id_ = text.partition(":")
    if not colon:
        raise click.BadParameter(f"{text!r}: write KIND:ID, such as assistant:asst_1", param_hint="--uses")
    return (KIND.convert(kind, None, None), id_)
