"""Answers about an object under another id than the one asked for: a proxy may encrypt ids anew each time. No I/O.

LiteLLM does so for responses: what a read returns is not the id that was asked for, and no two answers agree.
"""

from lapse.providers.kinds import Kind
from lapse.providers.response import Reply, document

ENCRYPTS = 'as a proxy does that encrypts ids anew in each answer: if this is one, state ids = "opaque"'
"""What to say of such an answer where the account's ids are not stated to be opaque."""

_OK = 200


def renamed(kind: Kind, object_id: str, reply: Reply) -> bool:
    """Return True if a 200, to a read or a deletion, is about an object of the kind that it calls by another id."""
    body = document(reply)
    other, said = body.get(kind.id_field), {kind.deleted_object, kind.deleted_object.removesuffix(".deleted")}
    return reply.status == _OK and isinstance(other, str) and other != object_id and body.get("object") in said


def confirms_another(kind: Kind, object_id: str, reply: Reply) -> bool:
    """Return True if a ``DELETE`` was answered by the confirmed deletion of an object of the kind under another id."""
    body = document(reply)
    return renamed(kind, object_id, reply) and body["object"] == kind.deleted_object and body.get("deleted") is True
