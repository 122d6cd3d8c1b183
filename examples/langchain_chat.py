"""LangChain: stored completions of ChatOpenAI, by the HTTP client that it is given."""

import os

import httpx2
from langchain_openai import ChatOpenAI

import lapse

BASE_URL = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
POLICIES = {"chat_completion": "chat", "response": "chat"}


def main() -> None:
    """Ask twice: only what the provider stores is registered."""
    with httpx2.Client() as http:
        lapse.track_http(http, base_url=BASE_URL, provider="openai", policies=POLICIES)
        model = ChatOpenAI(model="gpt-5", base_url=BASE_URL, http_client=http, store=True)
        with lapse.context(subject="user:42"):
            stored = model.invoke("Hello")
        passing = model.bind(store=False).invoke("Hello")
    print(stored.response_metadata["id"], passing.response_metadata["id"])


if __name__ == "__main__":
    main()
