"""What answers mean, as values; tests/providers checks the same rows over a socket."""

import json
from dataclasses import replace

import pytest

from lapse.providers.deadline import Deadline, Requests, cut_short
from lapse.providers.kinds import CONVERSATION_ITEM, KINDS
from lapse.providers.outcomes import (
    Limited,
    Outcome,
    Verdict,
    after_probe,
    classify,
    classify_item,
    classify_read,
    exists,
    limited,
    probe_ok,
    taken_out,
    unauthorised,
    unnamed,
    unreadable,
)
from lapse.providers.response import Reply
from providers.dialects import DIALECT_ROWS
from providers.rows import CONVERSATION, FILE, ROWS, STORE, THREAD, Row, error, gone

KIND = KINDS["openai"]["thread"]
CONVERSATIONS = KINDS["openai"]["conversation"]
ITEM = "msg_67cb71b3c2b08190a1b2c3d4e5f60718"


def reply(status: int, body: str | bytes = b"", **headers: str) -> Reply:
    data = body.encode() if isinstance(body, str) else body
    return Reply(status, {name.replace("_", "-").lower(): value for name, value in headers.items()}, data)


@pytest.mark.parametrize("row", [*ROWS, *DIALECT_ROWS], ids=lambda row: f"{row.type}-{row.outcome}-{row.name}")
def test_row(row: Row) -> None:
    kind = KINDS[row.type][row.kind]
    headers = {name.lower(): value for name, value in row.headers.items()}
    body = row.body.encode() if isinstance(row.body, str) else row.body

    verdict = classify(kind, row.object_id, Reply(row.status, headers, body))

    assert (row.outcome, row.unknown) == (verdict.outcome, verdict.unknown)
    assert row.status == verdict.status
    assert row.retry_after == verdict.retry_after
    assert row.says in verdict.detail
    assert (verdict.detail == "") == (verdict.outcome is Outcome.DELETED)
    assert len(verdict.detail) <= 300
    assert verdict.detail.isprintable()
    assert "sk-proj-A" not in verdict.detail
    assert "ticket" not in verdict.detail


@pytest.mark.parametrize(
    ("failure", "sent", "outcome", "unknown"),
    [
        ("timeout", True, Outcome.ERROR, True),
        ("timeout", False, Outcome.ERROR, False),
        ("connect", False, Outcome.ERROR, False),
        ("tls", False, Outcome.ERROR, False),
        ("reset", True, Outcome.ERROR, True),
        ("protocol", True, Outcome.ERROR, True),
        ("credentials", False, Outcome.AUTH, False),
        ("invalid", False, Outcome.INVALID, False),
        ("sunset", False, Outcome.UNSUPPORTED, False),
        ("late", False, Outcome.LIMITED, False),
    ],
)
def test_no_answer(failure: str, sent: bool, outcome: Outcome, unknown: bool) -> None:
    """Only a request that may have been seen may have taken effect."""
    verdict = classify(KIND, THREAD, Reply(body=b"what happened", failure=failure, sent=sent))

    assert Verdict(outcome, unknown=unknown, detail=f"{failure}: what happened") == verdict


def test_a_204_confirms_only_where_the_provider_documents_it() -> None:
    documented = replace(KIND, no_content=True)

    assert classify(KIND, THREAD, reply(204)).outcome is Outcome.UNCONFIRMED
    assert Verdict(Outcome.DELETED, status=204) == classify(documented, THREAD, reply(204))


def test_a_5xx_that_speaks_of_the_credential_is_its_matter() -> None:
    kind = replace(KIND, denied=("Unable to get resource information.",))

    verdict = classify(kind, THREAD, reply(500, error("Unable to get resource information.")))
    other = classify(kind, THREAD, reply(500, error("The server had an error")))

    assert (verdict.outcome, verdict.unknown) == (Outcome.AUTH, False)
    assert (other.outcome, other.unknown) == (Outcome.ERROR, True)


class TestRecognisers:
    """The not-found texts that a configuration adds."""

    def test_a_text_anywhere_in_the_message(self) -> None:
        answer = reply(404, error("Sorry: Assistant not found (it never was)"))

        assert classify(KIND, THREAD, answer).outcome is Outcome.UNRECOGNISED
        assert classify(KIND, THREAD, answer, ["Assistant not found"]).outcome is Outcome.ALREADY_GONE

    @pytest.mark.parametrize(
        ("message", "outcome"),
        [
            (f"Thread {THREAD} does not exist", Outcome.ALREADY_GONE),
            (f"Thread '{THREAD}' does not exist", Outcome.ALREADY_GONE),
            (f"Thread {THREAD}2 does not exist", Outcome.UNRECOGNISED),
            ("Thread does not exist", Outcome.UNRECOGNISED),
        ],
    )
    def test_a_text_with_the_id(self, message: str, outcome: Outcome) -> None:
        assert classify(KIND, THREAD, reply(404, error(message)), ["Thread {id} does not exist"]).outcome is outcome

    def test_a_text_with_the_id_twice_needs_it_twice(self) -> None:
        texts = ["{id}: no {id} here"]

        assert classify(KIND, "a", reply(404, error("a: no a here")), texts).outcome is Outcome.ALREADY_GONE
        assert classify(KIND, "a", reply(404, error("a: no b here")), texts).outcome is Outcome.UNRECOGNISED

    @pytest.mark.parametrize("text", ["{id}", "thread", "URL", "Invalid URL (DELETE /v1/threads/{id})"])
    def test_no_text_makes_an_unknown_route_an_absence(self, text: str) -> None:
        answer = reply(404, error(f"Invalid URL (DELETE /v1/threads/{THREAD})"))

        assert classify(KIND, THREAD, answer, [text]).outcome is Outcome.UNRECOGNISED

    @pytest.mark.parametrize("text", ["", "  "])
    def test_a_blank_text_matches_nothing(self, text: str) -> None:
        assert classify(KIND, THREAD, reply(404, error("anything")), [text]).outcome is Outcome.UNRECOGNISED

    @pytest.mark.parametrize("body", ["", "<p>gone</p>", "{}", "[]", b"\x00gone"])
    def test_a_body_without_a_message_matches_nothing(self, body: str | bytes) -> None:
        assert classify(KIND, THREAD, reply(404, body), ["gone", "", "{}"]).outcome is Outcome.UNRECOGNISED

    def test_other_statuses_are_not_recognised(self) -> None:
        """A 400 with a not-found text may be any complaint about the request."""
        answer = reply(400, error(f"No thread found with id '{THREAD}'."))

        assert classify(KIND, THREAD, answer, ["No thread found"]).outcome is Outcome.INVALID

    def test_the_detail_has_the_line_to_add(self) -> None:
        answer = reply(404, error(f'No "thread" {THREAD} in this project'))
        hint = 'if that means gone, add not_found = ["No \\"thread\\" {id} in this project"]'

        detail = classify(KIND, THREAD, answer).detail

        assert hint in detail
        assert "Not found" not in detail

    @pytest.mark.parametrize(
        "message",
        [
            "Not Found",
            "Resource not found",
            f"Invalid URL (DELETE /v1/threads/{THREAD})",
            "x" * 101,
            "key sk-abcdefgh1234",
        ],
    )
    def test_a_text_that_says_too_little_or_too_much_is_not_suggested(self, message: str) -> None:
        assert "not_found" not in classify(KIND, THREAD, reply(404, error(message))).detail


def test_the_request_id_is_the_providers() -> None:
    answer = reply(200, gone("thread", THREAD), x_request_id="req_011CVf")

    assert Verdict(Outcome.DELETED, status=200, request_id="req_011CVf") == classify(KIND, THREAD, answer)


@pytest.mark.parametrize("header", ["apim-request-id", "x-ms-request-id"])
def test_the_request_id_has_azures_names_too(header: str) -> None:
    assert classify(KIND, THREAD, reply(500, **{header: "b6a1"})).request_id == "b6a1"


@pytest.mark.parametrize("value", ["", "caf\u00e9", "a\x1b[31m"])
def test_a_request_id_that_is_none_is_left_out(value: str) -> None:
    assert classify(KIND, THREAD, reply(500, x_request_id=value)).request_id is None


def test_a_retry_after_date_counts_from_now_where_the_answer_has_no_date() -> None:
    answer = reply(429, retry_after="Mon, 23 Nov 2026 10:00:30 GMT")

    assert classify(KIND, THREAD, answer, now=1795428000).retry_after == 30


class TestItems:
    """What the answer to the DELETE of a conversation's item means."""

    @pytest.mark.parametrize(
        ("answer", "outcome"),
        [
            (
                reply(200, json.dumps({"id": CONVERSATION, "object": "conversation", "metadata": {}})),
                Outcome.DELETED,
            ),
            (reply(200, json.dumps({"id": CONVERSATION})), Outcome.DELETED),
            (
                reply(200, json.dumps({"id": ITEM, "object": "conversation.item.deleted", "deleted": True})),
                Outcome.DELETED,
            ),
            (reply(200, json.dumps({"id": "conv_other", "object": "conversation"})), Outcome.UNCONFIRMED),
            (reply(200, json.dumps({"id": CONVERSATION, "object": "response"})), Outcome.UNCONFIRMED),
            (reply(200, json.dumps({"id": ITEM, "deleted": False})), Outcome.UNCONFIRMED),
            (reply(200, json.dumps({"id": ITEM, "object": "message"})), Outcome.UNCONFIRMED),
            (reply(200, "{}"), Outcome.UNCONFIRMED),
            (reply(200, "<html>"), Outcome.UNCONFIRMED),
            (reply(204), Outcome.UNCONFIRMED),
            (reply(404, error(f"Item with id '{ITEM}' not found.")), Outcome.ALREADY_GONE),
            (reply(404, error(f"Item with id '{ITEM}' not found in conversation.")), Outcome.ALREADY_GONE),
            (reply(404, error(f"Conversation with id '{CONVERSATION}' not found.")), Outcome.ALREADY_GONE),
            (reply(404, error("Item with id 'msg_other' not found.")), Outcome.UNRECOGNISED),
            (
                reply(404, error(f"Invalid URL (DELETE /v1/conversations/{CONVERSATION}/items/{ITEM})")),
                Outcome.UNRECOGNISED,
            ),
            (reply(403), Outcome.FORBIDDEN),
            (reply(429, retry_after="7"), Outcome.RATE_LIMITED),
            (reply(502), Outcome.ERROR),
            (Reply(failure="timeout"), Outcome.ERROR),
        ],
    )
    def test_table(self, answer: Reply, outcome: Outcome) -> None:
        """Whatever becomes of an item, nothing is unknown of the conversation: its DELETE was not sent."""
        verdict = classify_item(CONVERSATIONS, CONVERSATION, ITEM, answer)

        assert (outcome, False) == (verdict.outcome, verdict.unknown)

    def test_recognisers_count(self) -> None:
        verdict = classify_item(CONVERSATIONS, CONVERSATION, ITEM, reply(404, error("no such item")), ["no such item"])

        assert verdict.outcome is Outcome.ALREADY_GONE

    def test_a_kind_without_children_is_its_own_child(self) -> None:
        answer = reply(404, error(f"Item with id '{ITEM}' not found."))

        assert classify_item(CONVERSATION_ITEM, "x", ITEM, answer).outcome is Outcome.ALREADY_GONE


class TestReads:
    """What a GET that was no use means."""

    def test_a_200_is_unconfirmed(self) -> None:
        verdict = classify_read(KIND, THREAD, reply(200, "{}"))

        assert (verdict.outcome, verdict.unknown) == (Outcome.UNCONFIRMED, False)
        assert THREAD in verdict.detail

    @pytest.mark.parametrize(
        ("answer", "outcome"),
        [
            (reply(404, error(f"No thread found with id '{THREAD}'.")), Outcome.ALREADY_GONE),
            (reply(404), Outcome.UNRECOGNISED),
            (reply(401), Outcome.AUTH),
            (reply(500), Outcome.ERROR),
            (reply(302), Outcome.UNCONFIRMED),
            (Reply(failure="reset"), Outcome.ERROR),
        ],
    )
    def test_nothing_is_unknown_after_a_read(self, answer: Reply, outcome: Outcome) -> None:
        verdict = classify_read(KIND, THREAD, answer)

        assert (outcome, False) == (verdict.outcome, verdict.unknown)

    def test_a_witness_is_a_200_with_the_id(self) -> None:
        assert exists(KIND, THREAD, reply(200, json.dumps({"id": THREAD, "object": "thread"})))
        assert not exists(KIND, THREAD, reply(200, json.dumps({"id": "thread_other"})))
        assert not exists(KIND, THREAD, reply(404, json.dumps({"id": THREAD})))
        assert not exists(KIND, THREAD, reply(200, "<html>"))


class TestProbe:
    """What an unrecognised answer means once the endpoint was asked for something without an id."""

    UNRECOGNISED = Verdict(Outcome.UNRECOGNISED, detail="404 an empty body", status=404)

    @pytest.mark.parametrize("body", ['{"object": "list", "data": []}', '{"data": [{"id": "asst_1"}]}'])
    def test_a_list_is_a_good_probe(self, body: str) -> None:
        assert probe_ok(KIND, reply(200, body))
        assert after_probe(KIND, self.UNRECOGNISED, reply(200, body)) is self.UNRECOGNISED

    def test_a_search_answers_with_an_array(self) -> None:
        searched = replace(KIND, search="/threads/search")

        assert probe_ok(searched, reply(200, "[]"))
        assert not probe_ok(searched, reply(200, '{"data": []}'))
        assert not probe_ok(KIND, reply(200, "[]"))

    @pytest.mark.parametrize(
        "probe",
        [
            reply(404),
            reply(410),
            reply(405),
            reply(400, error("gone", code="invalid_beta")),
            reply(200, "{}"),
            reply(200, PAGE := "<html>"),
            reply(204),
            reply(302),
            reply(409),
        ],
    )
    def test_a_bad_probe_is_a_missing_endpoint(self, probe: Reply) -> None:
        verdict = after_probe(KIND, self.UNRECOGNISED, probe)

        assert not probe_ok(KIND, probe)
        assert verdict.outcome is Outcome.ENDPOINT_MISSING
        assert verdict.detail.startswith(f"404 an empty body; the probe answered {probe.status}")

    def test_a_kind_without_a_probe_is_a_missing_endpoint(self) -> None:
        verdict = after_probe(KIND, self.UNRECOGNISED, None)

        assert verdict.outcome is Outcome.ENDPOINT_MISSING
        assert verdict.detail == "404 an empty body; this kind has no probe"

    @pytest.mark.parametrize(
        ("probe", "outcome"),
        [
            (reply(401), Outcome.AUTH),
            (reply(429, retry_after="3"), Outcome.RATE_LIMITED),
            (reply(429, error("", code="insufficient_quota")), Outcome.QUOTA),
            (reply(503), Outcome.ERROR),
            (Reply(failure="timeout"), Outcome.ERROR),
            (Reply(failure="credentials", sent=False), Outcome.AUTH),
            (Reply(failure="late", sent=False), Outcome.LIMITED),
        ],
    )
    def test_a_probe_that_was_refused_says_nothing_of_the_endpoint(self, probe: Reply, outcome: Outcome) -> None:
        verdict = after_probe(KIND, self.UNRECOGNISED, probe)

        assert (outcome, False) == (verdict.outcome, verdict.unknown)


def test_limited_carries_the_wait() -> None:
    verdict = limited(Limited("no tokens for 9 s", 9.0), items=3)

    assert Verdict(Outcome.LIMITED, retry_after=9.0, detail="no tokens for 9 s", items=3) == verdict


def test_an_end_before_the_answer_is_an_attempt_only_if_the_delete_had_begun() -> None:
    sent = Requests(Deadline(0, 0))
    assert Verdict(Outcome.LIMITED, detail="it ended") == cut_short("it ended", sent)
    sent.begun()
    sent.items = 3
    assert Verdict(Outcome.ERROR, unknown=True, detail="it ended", items=3) == cut_short("it ended", sent)


def test_a_credential_that_is_not_valid_is_told_from_one_that_may_not() -> None:
    assert [True, False, False] == [unauthorised(reply(status)) for status in (401, 403, 404)]


@pytest.mark.parametrize(("status", "expected"), [(404, True), (410, True), (200, False), (500, False)])
def test_only_a_kind_whose_absence_is_asked_for_elsewhere_has_an_unnamed_one(
    status: int,
    expected: bool,
) -> None:
    elsewhere = next((kind for kinds in KINDS.values() for kind in kinds.values() if kind.absence is not None), None)

    assert not unnamed(KIND, reply(status))
    assert elsewhere is None or expected is unnamed(elsewhere, reply(status))


class TestTakenOut:
    """A file is taken out of its vector store before it is deleted."""

    @pytest.mark.parametrize(
        "answer",
        [
            reply(200, json.dumps({"id": FILE, "object": "vector_store.file.deleted", "deleted": True})),
            reply(404, error(f"No file found with id '{FILE}' in vector store '{STORE}'.")),
            reply(404, error(f"No vector store found with id '{STORE}'.")),
        ],
    )
    def test_it_is_not_in_there_now(self, answer: Reply) -> None:
        assert taken_out(KINDS["openai"]["vector_store"], STORE, FILE, answer) is None

    @pytest.mark.parametrize(
        ("answer", "outcome"),
        [
            (reply(200, json.dumps({"id": "file-other", "deleted": True})), Outcome.UNCONFIRMED),
            (reply(200, json.dumps({"id": FILE, "deleted": False})), Outcome.UNCONFIRMED),
            (reply(404, error("Invalid URL")), Outcome.UNRECOGNISED),
            (reply(404, error("No file found with id 'file-other' in vector store 'vs_1'.")), Outcome.UNRECOGNISED),
            (reply(500), Outcome.ERROR),
        ],
    )
    def test_it_may_still_be_in_there(self, answer: Reply, outcome: Outcome) -> None:
        verdict = taken_out(KINDS["openai"]["vector_store"], STORE, FILE, answer)

        assert verdict is not None
        assert (outcome, False) == (verdict.outcome, verdict.unknown)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 302, 404, 410, 500])
@pytest.mark.parametrize(("server", "name"), [(server, name) for server, kinds in KINDS.items() for name in kinds])
def test_a_read_never_yields_a_deletion(server: str, name: str, status: int) -> None:
    """Whatever its status and body: a GET that answers as a DELETE would has deleted nothing."""
    kind = KINDS[server][name]
    said = {"id": "x", kind.id_field: "x", "deleted": True, "object": kind.deleted_object}
    for body in (b"", json.dumps(said).encode()):
        verdict = classify_read(kind, "x", Reply(status=status, body=body))
        assert verdict.outcome is not Outcome.DELETED
        assert verdict.by_read or verdict.outcome is not Outcome.ALREADY_GONE


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply(404, error(f"Thread {THREAD} could not be located")), True),
        (reply(410, error(f"Thread {THREAD} could not be located")), True),
        (reply(405, error(f"Thread {THREAD} not found")), False),
        (reply(404, error("Not found")), False),
        (reply(404), False),
        (reply(500), False),
        (reply(404, error(f"No thread found with id '{THREAD}'.")), False),
    ],
)
def test_a_read_that_misses_an_object_in_words_of_its_own(answer: Reply, *, expected: bool) -> None:
    assert expected == unreadable(classify_read(KIND, THREAD, answer))


def test_a_refused_list_is_the_accounts_and_a_refused_object_its_own() -> None:
    assert classify_read(KIND, "", reply(403)).outcome is Outcome.AUTH
    assert classify_read(KIND, THREAD, reply(403)).outcome is Outcome.FORBIDDEN


def test_what_is_wrong_with_a_probe_is_not_the_ids() -> None:
    unknown = classify(KIND, THREAD, reply(404, "x"))

    failed, forbidden = (after_probe(KIND, unknown, reply(status)) for status in (503, 403))

    assert (Outcome.ERROR, None, False) == (failed.outcome, failed.status, failed.unknown)
    assert forbidden.outcome is Outcome.AUTH


def test_an_answer_that_names_the_id_speaks_of_it() -> None:
    assert classify(KIND, THREAD, reply(400, error(f"Invalid 'thread_id': '{THREAD}'."))).named
    assert not classify(KIND, THREAD, reply(400, error("Bad Request"))).named
