"""Reading what a client sends: JSON and metadata, and the provider's words where they are wrong. No I/O."""

import json

from lapse.sandbox.wire import Json, Request, Response, refusal

MOST_PAIRS = 16
LONGEST_KEY = 64
LONGEST_VALUE = 512


class BadRequest(Exception):
    """A request body that the provider refuses; ``answer`` says how."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer


def refuse(message: str, param: str | None, code: str | None) -> BadRequest:
    """Return the error that answers 400."""
    return BadRequest(refusal(400, message, "refused", param=param, code=code))


def read(request: Request) -> Json:
    """Return the JSON object in a request's body; no body is an empty object.

    Raises:
        Refused: it is not a JSON object, or its metadata breaks the documented limits.

    """
    if not request.body:
        return {}
    try:
        body = json.loads(request.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise refuse("We could not parse the JSON body of your request.", None, None)
    check_metadata(body.get("metadata"))
    return body


def check_metadata(metadata: object) -> None:
    """Hold metadata to 16 pairs of strings, keys of up to 64 and values of up to 512 characters.

    Raises:
        Refused: it breaks one of these.

    """
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise refuse("Invalid type for 'metadata': expected an object.", "metadata", "invalid_type")
    if len(metadata) > MOST_PAIRS:
        message = (
            f"Invalid 'metadata': too many properties. Expected an object with at most {MOST_PAIRS} "
            f"properties, but got an object with {len(metadata)} properties instead."
        )
        raise refuse(message, "metadata", "object_above_max_properties")
    for key, value in metadata.items():
        _check_pair(key, value)


def _check_pair(key: str, value: object) -> None:
    where = f"metadata.{key}"
    if not isinstance(value, str):
        raise refuse(f"Invalid type for '{where}': expected a string.", where, "invalid_type")
    for what, length, most in (("key", len(key), LONGEST_KEY), ("value", len(value), LONGEST_VALUE)):
        if length > most:
            message = (
                f"Invalid '{where}': {what} too long. Expected a string with maximum length {most}, "
                f"but got a string with length {length} instead."
            )
            raise refuse(message, where, "string_above_max_length")
