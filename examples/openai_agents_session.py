"""OpenAI Agents SDK: the conversation of a session is registered when it begins.

A session has no id until its first write, so there is nothing that an application could register by hand before it.
"""

import asyncio

from agents import OpenAIConversationsSession, set_default_openai_client
from openai import AsyncOpenAI

import lapse


async def main() -> None:
    """Keep two users' conversations apart, and clear one of them."""
    client = lapse.track(AsyncOpenAI(), provider="openai", policies={"conversation": "chat", "response": "chat"})
    set_default_openai_client(client, use_for_tracing=False)  # of Runner.run(agent, "Hello", session=session), too

    sessions = {user: OpenAIConversationsSession(openai_client=client) for user in (42, 43)}
    for user, session in sessions.items():
        with lapse.context(subject=f"user:{user}"):
            await session.add_items([{"role": "user", "content": "Hello"}])
        print(session.session_id, len(await session.get_items()))
    await sessions[43].clear_session()  # deleted by the application, so settled
    await client.close()


if __name__ == "__main__":
    asyncio.run(main())
