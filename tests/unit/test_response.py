"""What answers say: messages, shapes and waits."""

import pytest

from lapse.providers.response import LONGEST_WAIT, Complaint, Reply, complaint, line, odd_wait, retry_after, say, shape

NOW = 1795428000.0  # 2026-11-23T10:00:00Z


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "30"}, 30),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-4"}, 0),
        ({"retry-after": "86400"}, LONGEST_WAIT),
        ({"retry-after": "86401"}, None),
        ({"retry-after": "978307200"}, None),
        ({"retry-after-ms": "978307200000"}, None),
        ({"retry-after": "1795428060000"}, None),
        ({"retry-after": "Mon, 23 Nov 2057 10:01:00 GMT"}, None),
        ({"retry-after": "99999999999999999"}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "6m0s"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "30"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "30"}, 30),
        ({"retry-after": "Mon, 23 Nov 2026 10:01:00 GMT"}, 60),
        ({"retry-after": "Mon, 23 Nov 2026 10:01:00 -0000"}, 60),
        ({"retry-after": "Mon, 23 Nov 2026 11:01:00 +0100"}, 60),
        ({"retry-after": "Mon, 23 Nov 2026 09:00:00 GMT"}, 0),
        ({"retry-after": "Mon, 23 Nov 2026 10:01:00 GMT", "date": "Mon, 23 Nov 2026 10:00:50 GMT"}, 10),
        ({"retry-after": "Mon, 23 Nov 2026 10:01:00 GMT", "date": "no date"}, 60),
        ({"retry-after": "Mon, 99 Nov 2026 10:01:00 GMT"}, None),
        ({"x-ratelimit-reset-requests": "6m0s"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({}, ""),
        ({"retry-after": "30"}, ""),
        ({"retry-after": "-4"}, ""),
        ({"retry-after": "978307200"}, "978307200"),
        ({"retry-after": "NaN"}, "NaN"),
        ({"retry-after": "1795428060000"}, "1795428060000"),
        ({"retry-after": "x" * 100}, "x" * 40),
        ({"retry-after-ms": "1e99"}, "1e99"),
        ({"retry-after-ms": "", "retry-after": "soon"}, "soon"),
        ({"retry-after-ms": "soon", "retry-after": "30"}, ""),
    ],
)
def test_a_wait_that_is_not_followed_is_named(headers: dict[str, str], named: str) -> None:
    said = odd_wait(headers, NOW)

    assert bool(said) == bool(named)
    assert f"{named!r}" in said or not named


def test_a_retry_after_date_needs_a_clock() -> None:
    assert retry_after({"retry-after": "Mon, 23 Nov 2026 10:01:00 GMT"}) is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "m", "code": "c", "type": "t"}}', Complaint("m", "c", "t")),
        (b'{"error": {"message": null, "code": 404}}', Complaint()),
        (b'{"error": "m"}', Complaint("m")),
        (b'{"error": {}, "detail": "m"}', Complaint("m")),
        (b'{"detail": ["m"]}', Complaint('["m"]')),
        (b'{"message": "m"}', Complaint("m")),
        (b'{"error": "c", "message": "m"}', Complaint("m", "c")),
        (b'{"error": "m", "message": "m"}', Complaint("m")),
        (b'{"error": true, "message": "m"}', Complaint("m")),
        (b'{"error": 404, "message": "m"}', Complaint("m")),
        (b'{"error": "m", "message": ""}', Complaint("m")),
        (b'{"error": "m", "message": {"a": 1}}', Complaint("m")),
        (b'{"error": {"message": "m"}, "message": "n"}', Complaint("m")),
        (b'{"detail": "c", "message": "m"}', Complaint("m")),
        (b'{"message": 4}', Complaint("4")),
        (b'{"other": "m"}', Complaint()),
        (b"m", Complaint("m")),
        (b' "m"', Complaint()),
        (b" <p>m", Complaint()),
        (b"", Complaint()),
        (b'\xef\xbb\xbf{"error": "m"}', Complaint("m")),
    ],
)
def test_complaint(body: bytes, said: Complaint) -> None:
    assert complaint(Reply(404, {}, body)) == said


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"object": "thread", "id": "x"}', "a thread object"),
        (b'{"a": 1, "b": 2}', "JSON with a, b"),
        (b" \n", "an empty body"),
        (b"<html><TITLE>Sign in \xff</TITLE>", "an HTML page 'Sign in \ufffd'"),
        (b"<p>", "an HTML page"),
        (b"hello\nyou", r"the text 'hello\nyou'"),
        (b"{}", "the text '{}'"),
        (b"\x00", "1 bytes that are not text"),
    ],
)
def test_shape(body: bytes, words: str) -> None:
    assert shape(Reply(200, {}, body)) == words


def test_a_line_is_one_line_of_printable_text() -> None:
    assert line("a\r\n\tb\x1b[31m \u2028 c") == "a b [31m c"


def test_a_line_is_cut() -> None:
    assert line("x" * 400) == "x" * 299 + "\u2026"
    assert line("x" * 300) == "x" * 300


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Incorrect API key provided: sk-proj-AbCdEf123456", "AbCdEf123456"),
        ("Authorization: Bearer abcdef123456", "abcdef123456"),
        ("redirect to https://user:hunter22@host/", "hunter22"),
    ],
)
def test_a_line_is_redacted(text: str, secret: str) -> None:
    assert secret not in line(text)


def test_an_answer_that_says_a_secret_does_not_pass_it_on() -> None:
    error = b'{"message": "Incorrect API key provided: sk-proj-AbCdEf123456.", "code": "invalid_api_key"}'
    body = b'{"error": ' + error + b"}"

    said = say(Reply(401, {}, body))

    assert said.startswith("401 Incorrect API key provided: sk-")
    assert said.endswith("[invalid_api_key]")
    assert "AbCdEf" not in said
