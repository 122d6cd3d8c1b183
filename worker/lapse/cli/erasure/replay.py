"""``lapse erase replay``: after a restore, each request of the audit again that the registry does not know."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from lapse.audit import strictjson
from lapse.audit.chain import open_seal
from lapse.audit.subjects import SubjectsShown
from lapse.audit.verify import Verification, lines_of
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess, with_session
from lapse.cli.erasure import tell
from lapse.cli.erasure.confirm import confirmed_at
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.options import FILE, confirm_each_option, json_option
from lapse.ledger.erasure import requests
from lapse.ledger.erasure.account import account_with
from lapse.ledger.erasure.request import ErasureAccount, ErasureRequest
from lapse.ledger.records import scanned
from lapse.registry import keys
from lapse.registry.commands import actor
from lapse.registry.subjects import SAID

EVENT = "erasure_requested"


@dataclass(frozen=True, slots=True)
class AuditedRequest:
    """A request as the audit has it: whose data, as the audit names that, and which times it covers."""

    id: str
    subject: str
    at: int
    until: int


@click.command()
@click.option(
    "--audit", "files", type=FILE, multiple=True, required=True, metavar="FILE", help="Audit files. Repeatable."
)
@confirm_each_option
@with_session
@json_option
def replay(*, session: Invocation, files: tuple[Path, ...], confirm: tuple[str, ...], as_json: bool) -> int:
    """Say every request of the audit again that this registry, restored from a backup, does not know.

    What a backup brings back of an erased person is erased again. Give all audit files there are. With [audit] subjects
    = "none" they name nobody, and say no request again.

    Examples:
      lapse erase replay --audit audit.jsonl --confirm=openai

    """
    _verify(session, files)
    told = {one.id: one for one in _told(files)}
    nameless = sum(not one.subject for one in told.values())
    accounts = session.run(lambda access: _unknown(access, session, [one for one in told.values() if one.subject]))
    for account in accounts:
        tell.announce(account)
    everything = (
        ErasureAccount(accounts[0].request, [one for each in accounts for one in each.ids]) if accounts else None
    )
    providers = confirmed_at(session, everything, confirm) if everything else ()
    session.run(lambda access: _begin(access, accounts))
    if as_json:
        again = [account.request.id for account in accounts]
        output.document({"requests": len(told), "again": again, "providers": list(providers), "nameless": nameless})
    else:
        output.say(
            f"{formatting.count(len(told), 'request')} in the audit, {len(accounts):,} said again"
            + (f" at {', '.join(providers)}" if providers else "")
        )
    if nameless:
        output.note(f'{nameless:,} name no subject ([audit] subjects = "none"): these cannot be said again', output.BAD)
    return Code.PARTIAL if nameless else Code.OK


async def _begin(access: RegistryAccess, accounts: Sequence[ErasureAccount]) -> None:
    for account in accounts:
        await access.lasting()
        await requests.begin(access.ledger, account.request)


def _verify(session: Invocation, files: Sequence[Path]) -> None:
    """Refuse files that are not what workers wrote: whoever could write to them could have anybody's data deleted.

    Raises:
        Refused: a line was altered, put in or taken out.

    """
    key = session.config.audit.key_file
    wrong = Verification([open_seal(key)] if key else []).verify(files).wrong
    if wrong:
        at = wrong[0].place
        where = f"{files[at.file]}:{at.line}" if at.line else "the end"
        raise Refused(Code.PARTIAL, f"{where}: {wrong[0].what}; nothing was done, lapse audit verify says more")


def _told(files: Iterable[Path]) -> Iterator[AuditedRequest]:
    for line in (line for path in files for line in lines_of(path) if EVENT.encode() in line):
        record = strictjson.loads(line)
        if isinstance(record, Mapping) and record.get("event") == EVENT:
            yield AuditedRequest(record["request"], record.get("subject", ""), record["asked"], record["until"])


async def _unknown(access: RegistryAccess, session: Invocation, told: Sequence[AuditedRequest]) -> list[ErasureAccount]:
    """Return what each request would find now, of those that the registry does not know."""
    names = await _subjects(access, session.subjects_shown) if told else {}
    now, due = await access.control.now(), round(session.config.erasure.due * 1000)
    found = []
    for one in sorted(told, key=lambda each: each.at):
        name = names.get(one.subject)
        if name is None or await requests.find(access.ledger, one.id):
            continue
        reason = "said again after a restore"
        request = ErasureRequest(one.id, name, one.at, one.until, one.at, now + due, reason, actor())
        found.append(await account_with(access.ledger, request))
    return found


async def _subjects(access: RegistryAccess, shown: SubjectsShown) -> dict[str, str]:
    """Return every subject that something is registered under, by the names that an audit may have for it."""
    found: dict[str, str] = {}
    for slot in await requests.slots(access.ledger):
        index = keys.slot(access.ledger.namespace, *slot) + keys.SUBJECTS
        async for entry, _score in scanned(access.carrier, "ZSCAN", index):
            name = entry.partition(SAID)[0]
            found[name] = name
    hashed = SubjectsShown(salt=shown.salt)
    return found | {hashed.told([name])[0]: name for name in list(found) if shown.salt}
