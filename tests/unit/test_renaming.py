"""Answers that call an object by another id than the one asked for."""

import json
from dataclasses import replace
from typing import Any

import pytest

from lapse.providers.kinds import KINDS
from lapse.providers.outcomes import Outcome, classify, classify_read
from lapse.providers.renaming import confirms_another, renamed
from lapse.providers.response import Reply

KIND = KINDS["openai"]["response"]
ASKED, OTHER = "resp_asked", "resp_bGl0ZWxsbTpjdXN0b20"


def reply(status: int = 200, **body: object) -> Reply:
    return Reply(status, {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("answer", "is_renamed", "confirms"),
    [
        (reply(id=OTHER, object="response"), True, False),
        (reply(id=OTHER, object="response", deleted=True), True, True),
        (reply(id=OTHER, object="response", deleted=False), True, False),
        (reply(id=OTHER, object="response", deleted="true"), True, False),
        (reply(id=ASKED, object="response", deleted=True), False, False),
        (reply(id=OTHER, object="conversation.deleted", deleted=True), False, False),
        (reply(id=OTHER, deleted=True), False, False),
        (reply(id=7, object="response", deleted=True), False, False),
        (reply(object="response", deleted=True), False, False),
        (reply(202, id=OTHER, object="response", deleted=True), False, False),
        (Reply(200, {}, b"<p>"), False, False),
    ],
)
def test_table(answer: Reply, *, is_renamed: bool, confirms: bool) -> None:
    assert (is_renamed, confirms) == (renamed(KIND, ASKED, answer), confirms_another(KIND, ASKED, answer))


def test_a_kind_whose_deletion_has_a_word_of_its_own() -> None:
    kind = replace(KIND, deleted_object="response.deleted")

    assert confirms_another(kind, ASKED, reply(id=OTHER, object="response.deleted", deleted=True))
    assert not confirms_another(kind, ASKED, reply(id=OTHER, object="response", deleted=True))
    assert renamed(kind, ASKED, reply(id=OTHER, object="response"))


def test_such_an_answer_is_no_confirmation_and_says_what_may_be_stated() -> None:
    deletion = classify(KIND, ASKED, reply(id=OTHER, object="response", deleted=True))
    read = classify_read(KIND, ASKED, reply(id=OTHER, object="response"))

    assert (Outcome.UNCONFIRMED, Outcome.UNCONFIRMED) == (deletion.outcome, read.outcome)
    assert 'state ids = "opaque"' in deletion.detail
    assert 'state ids = "opaque"' in read.detail


@pytest.mark.parametrize("body", [{"id": "resp_asked"}, {"object": "response"}, {"id": OTHER, "object": "thread"}])
def test_other_answers_do_not_speak_of_it(body: dict[str, Any]) -> None:
    assert "opaque" not in classify_read(KIND, ASKED, reply(**body)).detail
    assert "opaque" not in classify(KIND, ASKED, reply(**body)).detail
