"""Flask: each request says whose data it makes. Run it: flask --app examples/flask_app run."""

from flask import Flask, Response, abort, g, jsonify, request
from openai import OpenAI

import lapse

client = lapse.track(
    OpenAI(),
    provider="openai",
    policies={"conversation": "chat", "response": "chat"},
    require=("subject",),
)
app = Flask(__name__)


@app.before_request
def begin() -> None:
    """Everything that this request creates is its user's."""
    user = request.headers.get("X-User") or abort(401)
    g.whose = lapse.context(subject=f"user:{user}", labels={"app": "flask"})
    g.whose.__enter__()


@app.teardown_request
def end(_error: BaseException | None) -> None:
    """Let go of it: the next request in this thread may be somebody else's."""
    if "whose" in g:
        g.whose.__exit__(None, None, None)


@app.post("/chats")
def create() -> Response:
    """Begin a chat."""
    return jsonify(id=client.conversations.create().id)


@app.post("/chats/<chat>")
def answer(chat: str) -> Response:
    """Answer: the conversation is touched, and the response that refers to it registered."""
    said = client.responses.create(model="gpt-5", conversation=chat, input=request.get_json()["text"])
    return jsonify(id=said.id, text=said.output_text)


@app.delete("/chats/<chat>")
def delete(chat: str) -> Response:
    """Delete it now: lapse has nothing left to do."""
    return jsonify(deleted=client.conversations.delete(chat).deleted)
