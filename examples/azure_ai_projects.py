"""azure-ai-projects: the OpenAI client of a Foundry project. FOUNDRY_ENDPOINT is the project's address."""

import os

from azure.ai.projects import AIProjectClient
from azure.core.credentials import TokenCredential
from azure.identity import DefaultAzureCredential

import lapse

POLICIES = {"conversation": "chat", "response": "chat"}


def main(credential: TokenCredential) -> None:
    """Talk in a conversation of the project's."""
    url = os.environ.get("FOUNDRY_OPENAI_URL")  # a gateway, or a stand-in, in place of ENDPOINT/openai/v1
    elsewhere = {"base_url": url} if url else {}
    with (
        AIProjectClient(os.environ["FOUNDRY_ENDPOINT"], credential) as project,
        lapse.track(project.get_openai_client(**elsewhere), provider="foundry", policies=POLICIES) as client,
        lapse.context(subject="user:42"),
    ):
        conversation = client.conversations.create()
        answer = client.responses.create(model="gpt-5", conversation=conversation.id, input="Hello")
        print(conversation.id, answer.id)


if __name__ == "__main__":
    main(DefaultAzureCredential())
