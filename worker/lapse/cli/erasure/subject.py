"""``lapse subject``: whose data an id is, said anew."""

import click

from lapse.cli import output
from lapse.cli.context import Invocation, RegistryAccess, with_session
from lapse.cli.exit_codes import Code, Refused
from lapse.cli.options import SUBJECT, json_option, resource_arguments
from lapse.registry import codec
from lapse.registry.commands import actor
from lapse.registry.facts import subjects

ANSWERS = {
    "ok": "it is {subject}'s now",
    "same": "it is {subject}'s already",
    "too_late": "it is {subject}'s now; its deletion is under way, and no further attempt ignores what you said",
}


@click.group()
def subject() -> None:
    """Say anew whose data an id is.

    Examples:
      lapse subject move thread thread_abc --to user:42 --reason "ticket 7"

    """


@subject.command()
@resource_arguments
@click.option(
    "--to", "names", type=SUBJECT, multiple=True, required=True, metavar="NAME", help="Whose it is. Repeatable."
)
@click.option("--reason", required=True, help="Why, for the audit.")
@with_session
@json_option
def move(*, session: Invocation, kind: str, id_: str, names: tuple[str, ...], reason: str, as_json: bool) -> int:
    """Change whose data a tracked id is, which no registration does. A hold of a subject takes effect with that.

    Examples:
      lapse subject move thread thread_abc --to user:42 --reason "ticket 7"
      lapse subject move file file-1 --to user:42 --to team:a --reason "shared since May"

    """
    chosen = subjects(list(names))
    stored = codec.dump(chosen[0] if len(chosen) == 1 else list(chosen))

    async def say(access: RegistryAccess) -> str:
        said = (id_, stored, codec.dump(actor()), codec.dump(codec.text(reason, "reason")))
        call = access.ledger.on_slot("ledger/lua/erasure/move_subject", session.provider, kind, *said)
        return str((await access.carrier.carry([call]))[0])

    answer = session.run(say)
    if answer == "unknown":
        raise Refused(Code.USAGE, f"{session.provider} {kind} {id_} is not tracked: register it with its subject")
    if as_json:
        output.document({"answer": answer, "subjects": list(chosen)})
    else:
        output.say(ANSWERS[answer].format(subject=" and ".join(chosen)))
    return Code.PARTIAL if answer == "too_late" else Code.OK
