"""What is answered to a command about all that is a subject's."""

from dataclasses import asdict
from typing import NamedTuple

from lapse.cli import formatting, output
from lapse.cli.exit_codes import Code
from lapse.registry.model import SubjectAnswer


class Wording(NamedTuple):
    """How a command tells what it did: to ``changed`` ids, and to those that are left for workers."""

    done: str
    left: str


HOLD = Wording("{ids} of {subject} held now, and what is registered of it later", "{ids} more are held as they come up")
UNHOLD = Wording("{subject} is no longer held: {ids} let go", "{ids} more are let go by workers")
EXPIRE = Wording("{ids} of {subject} given an expiry of its own", "{ids} were not come to: say it again")


def answered(answer: SubjectAnswer, subject: str, wording: Wording, *, as_json: bool) -> int:
    """Print an answer; one that a kind has not taken, or that a deletion under way overtook, ends with PARTIAL."""
    if as_json:
        output.document({"subject": subject, "answer": "ok" if answer else "incomplete", **asdict(answer)})
    else:
        output.say(wording.done.format(ids=formatting.count(answer.changed, "id"), subject=subject))
    if answer.remaining:
        output.note(wording.left.format(ids=formatting.count(answer.remaining, "id")), output.WARN)
    if answer.claimed:
        ids = formatting.count(answer.claimed, "id")
        output.note(f"deletions are under way of {ids}: no further attempt ignores what you said", output.WARN)
    for failed in answer.failed:
        output.note(f"{failed}: it was not told, and deletes nothing until it is; say it again", output.BAD)
    return Code.PARTIAL if answer.failed or answer.claimed else Code.OK
