"""``lapse erase``: everything of a person, at every provider, by a request that can be followed and proven."""

import json
import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from datetime import time as clock
from pathlib import Path
from typing import Any

import click

from lapse.cli import output
from lapse.cli.context import Invocation, RegistryAccess, with_session
from lapse.cli.erasure import follow, tell
from lapse.cli.erasure.along import account_ahead
from lapse.cli.erasure.confirm import confirmed_at
from lapse.cli.erasure.replay import replay
from lapse.cli.exit_codes import Code
from lapse.cli.options import FUTURE, NEW_FILE, PAST, SUBJECT, Parsed, confirm_each_option, json_option, wide_option
from lapse.ledger.erasure import requests
from lapse.ledger.erasure.account import account_of
from lapse.ledger.erasure.request import ErasureAccount, ErasureRequest, State
from lapse.registry import codec
from lapse.registry.commands import actor
from lapse.registry.facts import request_id
from lapse.registry.model import SubjectAnswer
from lapse.registry.subjects import Subjects

REQUEST = Parsed("request id", request_id)


def _day(text: str) -> datetime | None:
    with suppress(ValueError):
        return datetime.combine(date.fromisoformat(text), clock(), UTC)
    return None


RECEIVED = Parsed("time", lambda text: _day(text) or PAST.convert(text, None, None))
DUE = Parsed("time", lambda text: _day(text) or FUTURE.convert(text, None, None))


@click.group(invoke_without_command=True)
@click.option("--subject", type=SUBJECT, metavar="NAME", help="Whose data; matched as a whole.")
@click.option("--request-id", "id_", type=REQUEST, metavar="UUID", help="The request's own id: said again, it goes on.")
@click.option("--received", type=RECEIVED, metavar="DATE", help="When the person asked. Else now.")
@click.option("--due", type=DUE, metavar="DATE", help="By when it has to be done. Else as [erasure] due says.")
@click.option("--reason", default="", help="Why, for the record.")
@click.option("--plan", is_flag=True, help="Only say what would be erased.")
@click.option(
    "-o", "--output", "path", type=NEW_FILE, metavar="FILE", help="With --plan: write it there, with every id."
)
@confirm_each_option
@click.option("--no-wait", is_flag=True, help="Do not follow what workers do.")
@json_option
@with_session
@click.pass_context
def erase(
    context: click.Context, /, *, session: Invocation, subject: str | None, id_: str | None, **given: Any
) -> int | None:
    """Erase everything that is registered as a subject's, of every kind and at every provider.

    It stands above mode, ttl, keep rules and max_deletions; holds, halts, pauses and the request budget stand above it.
    What another subject or something else uses stays, and is named. What belongs to an object goes with it: --plan says
    what of that is known without asking the provider. Workers delete; this follows them, and may be left.
    What was created by now and is registered within [erasure] late belongs to it too.

    Examples:
      lapse erase --subject user:42 --request-id 7b1c9f0e-52a1-4c57-9d0e-0f6d9a3f4a11 --plan
      lapse erase --subject user:42 --request-id 7b1c9f0e-52a1-4c57-9d0e-0f6d9a3f4a11 --confirm=openai
      lapse erase list

    """
    if context.invoked_subcommand:
        return None
    if subject is None or id_ is None:
        missing = "--subject NAME" if subject is None else f"--request-id UUID, such as {uuid.uuid4()}"
        raise click.UsageError(f"say {missing}", context)
    return _asked(session, subject, id_, **given)


erase.add_command(replay)


@erase.command()
@click.argument("id_", metavar="UUID", type=REQUEST)
@click.option("--limit", type=click.IntRange(0), default=tell.SHOWN, show_default=True, help="Ids to print.")
@with_session
@json_option
def status(*, session: Invocation, id_: str, limit: int, as_json: bool) -> int:
    """Say what became of every id of a request.

    Examples:
      lapse erase status 7b1c9f0e-52a1-4c57-9d0e-0f6d9a3f4a11

    """
    account = session.run(lambda access: account_of(access.ledger, id_))
    if as_json:
        output.document(tell.described(account))
    else:
        tell.say(account, limit)
    return tell.code(account)


@erase.command(name="list")
@wide_option
@with_session
@json_option
def list_(*, session: Invocation, wide: bool, as_json: bool) -> None:
    """List every request, those that are due first at the top.

    Examples:
      lapse erase list

    """
    found = session.run(lambda access: requests.every(access.ledger))
    tell.listed(sorted(found, key=lambda one: (one.state is not State.OPEN, one.due)), as_json=as_json, wide=wide)


def _asked(
    session: Invocation,
    subject: str,
    id_: str,
    *,
    plan: bool,
    path: Path | None,
    confirm: tuple[str, ...],
    no_wait: bool,
    as_json: bool,
    **said: Any,
) -> int:
    if path and not plan:
        raise click.UsageError("-o goes with --plan")
    asked = _request(session, subject, id_, **said)
    account = session.run(lambda access: _preview(access, session, asked))
    if plan:
        return _planned(account, path, as_json=as_json)
    if account.request is asked:  # it stands nowhere yet
        tell.announce(account)
        asked = replace(asked, providers=confirmed_at(session, account, confirm))
    _begin(session, asked, account, wait=not no_wait, quiet=as_json)
    account = session.run(lambda access: account_of(access.ledger, id_))
    if as_json:
        output.document(tell.described(account))
    else:
        tell.say(account, tell.SHOWN)
    return tell.code(account)


async def _begun(access: RegistryAccess, request: ErasureRequest) -> tuple[ErasureRequest, SubjectAnswer]:
    await access.lasting()
    return await requests.begin(access.ledger, request)


def _begin(session: Invocation, request: ErasureRequest, account: ErasureAccount, *, wait: bool, quiet: bool) -> None:
    """Say a request, or say it again, and follow what workers do."""
    begun, answer = session.run(lambda access: _begun(access, request))
    for failed in answer.failed:
        output.note(f"{failed}: it was not told yet; a worker tells it", output.WARN)
    if wait and account.ids and begun.state is State.OPEN:
        follow.follow(session, account, quiet=quiet)


def _request(
    session: Invocation, subject: str, id_: str, *, received: datetime | None, due: datetime | None, reason: str
) -> ErasureRequest:
    section = session.config.erasure
    now = session.run(lambda access: access.control.now())
    asked = round(received.timestamp() * 1000) if received else now
    by = round(due.timestamp() * 1000) if due else asked + round(section.due * 1000)
    if asked > now:
        raise click.UsageError("--received lies in the future")
    if by < asked:
        raise click.UsageError("--due lies before --received")
    return ErasureRequest(
        id_, subject, now, now + round(section.late * 1000), asked, by, reason and codec.text(reason, "reason"), actor()
    )


async def _preview(access: RegistryAccess, session: Invocation, request: ErasureRequest) -> ErasureAccount:
    """Return what a request would find, or one that stands has found.

    Raises:
        InvalidResource: its id belongs to another subject, or the subject looks like a pattern.

    """
    await access.carrier.say(Subjects(access.commands).literal(request.subject))
    standing = await requests.find(access.ledger, request.id)
    if standing is not None:
        requests.same_subject(standing, request)
    return await account_ahead(access, session, standing or request)


def _planned(account: ErasureAccount, path: Path | None, *, as_json: bool) -> int:
    described = tell.described(account) | tell.along(account)
    if path:
        path.write_text(json.dumps(described, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if as_json:
        output.document(described)
    else:
        tell.announce(account)
        output.note(f"{path} names every id" if path else "nothing was done", output.DIM)
    return Code.OK
