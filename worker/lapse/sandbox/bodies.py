"""Reading what a client sends: JSON and metadata, and the provider's words where they are wrong. No I/O."""

import json
from collections.abc import Sized

from lapse.sandbox.state import Json
from lapse.sandbox.wire import ApiError, ApiRequest, refusal

MOST_PAIRS = 16
LONGEST_KEY = 64
LONGEST_VALUE = 512


def read(request: ApiRequest) -> Json:
    """Return the JSON object in a request's body; no body is an empty object.

    Raises:
        ApiError: it is not a JSON object, or its metadata breaks the documented limits.

    """
    if not request.content:
        return {}
    try:
        body = json.loads(request.content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise refusal(400, "We could not parse the JSON body of your request.")
    _check_metadata(body.get("metadata"))
    return body


def missing(param: str) -> ApiError:
    """Return the refusal of a body without a parameter that it must have."""
    return refusal(400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def mistyped(param: str, wanted: str) -> ApiError:
    """Return the refusal of a value of the wrong type."""
    return refusal(400, f"Invalid type for '{param}': expected {wanted}.", param=param, code="invalid_type")


def hold_to(most: int, value: Sized, param: str, what: str) -> None:
    """Hold a text, an array or an object to its largest length; ``what`` names a property that is meant, or is empty.

    Raises:
        ApiError: it is longer.

    """
    if len(value) <= most:
        return
    if isinstance(value, dict):
        wrong, bound, found = "too many properties", f"at most {most} properties", f"{len(value)} properties"
        type_, code = "an object", "object_above_max_properties"
    else:
        type_, code = ("a string", "string") if isinstance(value, str) else ("an array", "array")
        wrong, bound, found = f"{what}too long", f"maximum length {most}", f"length {len(value)}"
        code += "_above_max_length"
    message = f"Invalid '{param}': {wrong}. Expected {type_} with {bound}, but got {type_} with {found} instead."
    raise refusal(400, message, param=param, code=code)


def _check_metadata(metadata: object) -> None:
    """Hold metadata to 16 pairs of strings, keys of up to 64 and values of up to 512 characters."""
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise mistyped("metadata", "an object")
    hold_to(MOST_PAIRS, metadata, "metadata", "")
    for key, value in metadata.items():
        param = f"metadata.{key}"
        if not isinstance(value, str):
            raise mistyped(param, "a string")
        hold_to(LONGEST_KEY, key, param, "key ")
        hold_to(LONGEST_VALUE, value, param, "value ")
