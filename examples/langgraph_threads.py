"""LangGraph SDK: threads of an Agent Server. LANGGRAPH_URL is its address."""

import asyncio
import os

from langgraph_sdk import get_client

import lapse


async def main() -> None:
    """Make a thread that is kept, and one for an experiment that is gone at its end."""
    async with get_client(url=os.environ["LANGGRAPH_URL"], api_key=os.environ.get("LANGSMITH_API_KEY")) as client:
        lapse.track(client, provider="langgraph", policies={"thread": "chat"})
        with lapse.context(subject="user:42"):
            thread = await client.threads.create()
        await client.runs.create(thread["thread_id"], os.environ.get("LANGGRAPH_GRAPH", "agent"))  # a use

        async with lapse.scope(client, wait=True):
            trial = await client.threads.create(metadata={"purpose": "experiment"})
            await client.threads.get(trial["thread_id"])
        print(thread["thread_id"])


if __name__ == "__main__":
    asyncio.run(main())
