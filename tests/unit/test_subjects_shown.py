"""How a subject is told outside of the registry."""

import hashlib
import hmac
import json

import pytest

from lapse.audit.subjects import SubjectsShown

SALT = b"00ff"
NAME = "hmac:" + hmac.new(SALT, b"user:42", hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    ("how", "salt", "told"),
    [("hmac", SALT, [NAME]), ("hmac", b"", []), ("plain", b"", ["user:42"]), ("none", SALT, [])],
)
def test_as_the_policy_file_says(how: str, salt: bytes, told: list[str]) -> None:
    shown = SubjectsShown(how, salt)
    line = b'{"event":"settled","subject":"user:42","id":"t"}'
    expected = {"event": "settled", "id": "t"} | ({"subject": told[0]} if told else {})

    assert told == shown.told(["user:42"])
    assert expected == json.loads(shown.line(line, json.loads(line)))


def test_several_stay_several_and_a_record_without_is_left_as_it_is() -> None:
    shown = SubjectsShown("plain")
    line = b'{"event" : "intent"}'

    assert {"subject": ["a", "b"]} == shown.record({"subject": ["a", "b"]})
    assert {"subject": "a"} == shown.record({"subject": "a"})
    assert line == shown.line(line, json.loads(line))
