"""FastAPI with an asynchronous client: nothing blocks the event loop. Run it: fastapi run examples/fastapi_app.py."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Header
from openai import AsyncOpenAI

import lapse

client = lapse.track(
    AsyncOpenAI(),
    provider="openai",
    policies={"conversation": "chat", "response": "chat"},
    require=("subject",),
)


async def whose(x_user: Annotated[str, Header()]) -> AsyncIterator[None]:
    """Everything that this request creates is its user's."""
    async with lapse.context(subject=f"user:{x_user}", labels={"app": "fastapi"}):
        yield


app = FastAPI(dependencies=[Depends(whose)])


@app.post("/chats")
async def create() -> dict[str, str]:
    """Begin a chat."""
    return {"id": (await client.conversations.create()).id}


@app.post("/chats/{chat}")
async def answer(chat: str, text: str) -> dict[str, str]:
    """Answer: the conversation is touched, and the response that refers to it registered."""
    said = await client.responses.create(model="gpt-5", conversation=chat, input=text)
    return {"id": said.id, "text": said.output_text}


@app.delete("/chats/{chat}")
async def delete(chat: str) -> dict[str, bool]:
    """Delete it now: lapse has nothing left to do."""
    return {"deleted": (await client.conversations.delete(chat)).deleted}
