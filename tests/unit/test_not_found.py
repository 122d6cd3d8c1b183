"""Which words say that an object does not exist, at which status, and which lines are offered for others."""

import json
import tomllib

import pytest

from lapse.errors import ConfigError
from lapse.policy.loader import parse
from lapse.providers.kinds import KINDS
from lapse.providers.not_found import absent, nondescript, recogniser
from lapse.providers.outcomes import HINT, Outcome, classify
from lapse.providers.response import Reply

KIND = KINDS["openai"]["vector_store"]
ID = "vs_68870b8868b88191894165101435eef6"
STATUSES = (400, 401, 403, 404, 405, 409, 410, 422, 500)


def reply(status: int, message: str) -> Reply:
    return Reply(status, {}, json.dumps({"error": {"message": message}}).encode())


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    ("text", "message", "where"),
    [
        ("Vector_store '{id}' not found", f"Vector_store '{ID}' not found", {400, 404, 405, 410}),
        ("Vector_store {id} not found", f"Vector_store '{ID}' not found", {400, 404, 405, 410}),
        ("Vector_store '{id}' not found", "Vector_store 'vs_1' not found", set()),
        ("Vector_store not found", "Vector_store not found", {404, 410}),
    ],
)
def test_a_configured_text_holds_at_its_statuses(text: str, message: str, where: set[int], status: int) -> None:
    """OGX answers 400 for what is not there; a 400 that names no id may complain of anything."""
    assert (status in where) == absent(KIND.not_found, [text], ID, reply(status, message))


@pytest.mark.parametrize("status", STATUSES)
def test_the_kinds_own_words_hold_where_an_object_is_missed(status: int) -> None:
    assert (status in {404, 410}) == absent(
        KIND.not_found, (), ID, reply(status, f"No vector store found with id {ID}")
    )


MESSAGES = (
    f"Vector store {ID} is not here",
    f"No such thing: '{ID}' (deleted?)",
    f'Nothing called "{ID}" \\ exists',
    "Vector store unknown",
    "Not Found",
    "Not Found.",
    "Resource not found",
    "The requested resource was not found on this server",
    "not_found_error",
    "Method Not Allowed",
    "Bad Request",
    ID,
    f"'{ID}'",
    f"Invalid URL (DELETE /v1/vector_stores/{ID})",
    f"x{ID}y is no id",
    "Response with id 'resp_0a0cc8227e90b719016a585a7ada5481' not found.",
    "x" * 101,
    "key sk-abcdefgh1234",
    "n\u00f3 existe",
    "tab\tin it",
    "",
)
CONFIG = """
[providers.a]
type = "openai"
api_key_env = "K"
{line}
[policies.chat]
kind = "vector_store"
ttl = "1d"
anchor = "created_at"
"""


@pytest.mark.parametrize("code", ["", "c" * 300])
@pytest.mark.parametrize("status", [400, 404, 405, 410])
@pytest.mark.parametrize("message", MESSAGES)
def test_an_offered_line_is_one_that_check_config_takes_and_that_recognises_the_answer(
    message: str, status: int, code: str
) -> None:
    said = Reply(status, {}, json.dumps({"error": {"message": message, "code": code}}).encode())

    detail = classify(KIND, ID, said).detail

    _, hint, line = detail.partition(HINT)
    assert bool(hint) == (recogniser(ID, said) is not None)
    if hint:
        config = parse(CONFIG.format(line=line), "it", {})
        assert classify(KIND, ID, said, config.accounts["a"].not_found).outcome is Outcome.ALREADY_GONE


def test_some_lines_are_offered() -> None:
    """The test above would pass if none were."""
    offered = [recogniser(ID, reply(404, message)) for message in MESSAGES]

    assert [text for text in offered if text] == [
        "Vector store {id} is not here",
        "No such thing: '{id}' (deleted?)",
        'Nothing called "{id}" \\ exists',
        "Vector store unknown",
        "n\u00f3 existe",
    ]


@pytest.mark.parametrize("status", [400, 405])
@pytest.mark.parametrize(
    ("message", "text"),
    [
        (f"Vector_store '{ID}' not found", "Vector_store '{id}' not found"),
        (f"Invalid 'vector_store_id': '{ID}'. Expected an ID that begins with 'vs'.", None),
        ("Vector_store not found", None),
    ],
)
def test_where_a_status_says_little_the_words_have_to_say_more(status: int, message: str, text: str | None) -> None:
    assert text == recogniser(ID, reply(status, message))


@pytest.mark.parametrize("text", ["not found", "Not Found", "{id}", " ", "404", "url", "Resource not found", "request"])
def test_what_a_missing_endpoint_gets_too_describes_nothing(text: str) -> None:
    assert nondescript(text)
    with pytest.raises(ConfigError, match=r"endpoint is missing|is blank"):
        parse(CONFIG.format(line=f"not_found = [{json.dumps(text)}]"), "it", {})


def test_a_line_is_toml() -> None:
    text = recogniser(ID, reply(404, f'No "{ID}" \\ here'))

    assert {"not_found": [text]} == tomllib.loads(f"not_found = [{json.dumps(text, ensure_ascii=False)}]")
