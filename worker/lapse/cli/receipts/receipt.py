"""``lapse receipt``: what became of an erasure, signed; whether a receipt is what was signed; and the key."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lapse import __version__
from lapse.cli import formatting, output
from lapse.cli.context import Invocation, RegistryAccess
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.options import FILE, NEW_FILE, Parsed, config_option, json_option
from lapse.cli.receipts import keys
from lapse.cli.receipts.document import Issue, document
from lapse.cli.receipts.places import places
from lapse.cli.wholefile import whole
from lapse.ledger.erasure.account import account_of, unsubjected
from lapse.ledger.erasure.request import ErasureAccount
from lapse.policy.reload import audit_file
from lapse.registry.facts import request_id

TOOL = f"lapse {__version__}"
REQUEST = Parsed("request", request_id)


class Receipts(click.Group):
    """A group whose first word may be a request's id: that is the command ``issue``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name, or ``issue`` with all of them."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["issue", *args])


@click.group(cls=Receipts, subcommand_metavar="REQUEST | COMMAND", context_settings={"ignore_unknown_options": True})
def receipt() -> None:
    """Say what became of an erasure, signed; verify what was said.

    `lapse receipt REQUEST` is short for `lapse receipt issue REQUEST`.

    Examples:
      lapse receipt 0190a5c2-7d0e-7b1c-9f2a-3c5d8e7f6a10
      lapse receipt verify receipt.json --public-key receipts.pub

    """


@receipt.command()
@click.argument("request", type=REQUEST)
@click.option(
    "--html", "as_page", is_flag=True, help="One page to print and file; it holds the JSON, and verifies too."
)
@click.option("--ids", type=click.Choice(["plain", "hashed"]), default="plain", help="How ids and the subject stand.")
@click.option("--require-complete", is_flag=True, help="End with 5 unless everything that was found is gone.")
@click.option("--audit", type=FILE, multiple=True, help="Where audit records are, if not in [audit] sink. Repeatable.")
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, allow_dash=True), default="-", metavar="FILE", help="Else stdout."
)
@config_option
def issue(
    *,
    request: str,
    as_page: bool,
    ids: str,
    require_complete: bool,
    audit: tuple[Path, ...],
    out: str,
    config: str | None,
) -> int:
    """Write the receipt of an erasure, signed with the key of [receipts] key_file.

    It says of each id what its provider answered and when, and where the audit has it. It is `complete` only if all of
    them are gone, nothing can come late any more, and no worker doubts it; else it says why not. With --ids hashed,
    ids and the subject are keyed hashes, and what providers and operators said in words is left out.

    Examples:
      lapse receipt 0190a5c2-7d0e-7b1c-9f2a-3c5d8e7f6a10 --html -o receipt.html
      lapse receipt 0190a5c2-7d0e-7b1c-9f2a-3c5d8e7f6a10 --ids hashed --require-complete

    """
    from lapse.cli.receipts import sealing

    session = Invocation(config)
    seed = _seed(session)
    account, now = session.run(lambda access: _read(access, request))
    salt = _salt(session) if ids == "hashed" else None
    made = document(account, Issue(now, TOOL, session.config.hash, salt, places(_files(session, audit), account.ids)))
    content = sealing.seal(made, seed, as_page=as_page)
    if out == "-" and output.on_terminal():  # to be read: what a terminal would obey is written out
        content = output.visible(content.decode()).encode() + b"\n"
    with whole(out) as file:
        file.write(content)
    output.note(_summary(made), output.GOOD if made["complete"] else output.WARN)
    return Code.PARTIAL if require_complete and not made["complete"] else Code.OK


@receipt.command()
@click.argument("file", type=FILE)
@click.option(
    "--public-key",
    "named",
    metavar="FILE|FINGERPRINT",
    multiple=True,
    help="Whom to trust. Else the policy file's key.",
)
@json_option
@config_option
def verify(*, file: Path, named: tuple[str, ...], as_json: bool, config: str | None) -> int:
    """Verify that a receipt, JSON or a page, is to the byte what the holder of a key signed.

    It exits with 5 if not. The key that stands in a receipt proves nothing: say which one you trust, by its fingerprint
    or a file that `lapse receipt key` printed; old ones too. It needs no Redis, and with --public-key no policy file.

    Examples:
      lapse receipt verify receipt.json --public-key receipts.pub

    """
    from lapse.cli.receipts import sealing

    trusted = keys.trusted(named) if named else {_own(Invocation(config))}
    try:
        found = sealing.verify(file.read_bytes(), trusted)
    except sealing.NotVerified as error:
        if as_json:
            output.document({"ok": False, "why": str(error), "receipt": None})
        else:
            output.say(f"{file}: {error}", output.BAD)
        return Code.PARTIAL
    except OSError as error:
        raise Refused(Code.USAGE, f"{file} cannot be read: {error.strerror}") from None
    if as_json:
        output.document({"ok": True, "why": None, "receipt": found})
    else:
        output.say(f"{file} is what was signed with {found['key']['id']}.", output.GOOD)
        output.say(_summary(found))
    return Code.OK


@receipt.command()
@click.option("--new", "new", type=NEW_FILE, metavar="FILE", help="Make a key in this file, for its owner alone.")
@json_option
@config_option
def key(*, new: Path | None, as_json: bool, config: str | None) -> None:
    """Print the public key and its fingerprint: what others verify receipts with.

    Publish both, and keep them when another key takes its place: receipts stay valid by the key that they name.

    Examples:
      lapse receipt key --new receipts.key

    """
    from lapse.cli.receipts import signing

    public = signing.public_of(keys.new_seed(new) if new else _seed(Invocation(config)))
    if as_json:
        output.document({"id": keys.fingerprint(public), "public": keys.public_pem(public)})
    else:
        output.say(keys.fingerprint(public))
        for line in keys.public_pem(public).splitlines():
            output.say(line)
    if new:
        output.note(f"{new} holds the private key. Name it as [receipts] key_file in the policy file.")


async def _read(access: RegistryAccess, request: str) -> tuple[ErasureAccount, int]:
    now = await access.control.now()  # before the account: what comes after it is late by no clock
    account = await account_of(access.ledger, request)
    if not account.request.subject:
        raise Refused(Code.USAGE, f"the record of {request} has ended: the registry has counts of it, and no ids")
    return replace(account, unsubjected=await unsubjected(access.ledger)), now


def _seed(session: Invocation) -> bytes:
    return keys.open_seed(session.config.receipts.key_file, session.config.audit.key_file)


def _own(session: Invocation) -> str:
    """Return the fingerprint of the policy file's key."""
    from lapse.cli.receipts import signing

    if not session.configured or session.config.receipts.key_file is None:
        raise Refused(Code.USAGE, "whose receipts are to be trusted? Give --public-key FILE|FINGERPRINT")
    return keys.fingerprint(signing.public_of(_seed(session)))


def _salt(session: Invocation) -> bytes:
    salt = session.subjects_shown.salt
    if not salt:
        raise Refused(Code.TEMPORARY, "the registry has no salt yet, and nothing is hashed without: start a worker")
    return salt


def _files(session: Invocation, given: Sequence[Path]) -> Sequence[Path]:
    """Return the audit files: those given, else the sink's, if it is one that can be read here."""
    written = audit_file(session.config, session.environ)
    return given or ([written] if written and written.is_file() else [])


def _summary(found: dict[str, Any]) -> str:
    state = {True: "complete", False: f"not complete ({', '.join(found['reasons'])})", None: "nothing was registered"}
    ids = formatting.count(found["found"], "id")
    return f"Request {found['request']['id']} of {found['subject']}: {ids} found, {state[found['complete']]}."
