"""azure-ai-agents (Foundry classic): a policy in the client's pipeline. FOUNDRY_ENDPOINT is the project's address."""

import os

from azure.ai.agents import AgentsClient
from azure.core.credentials import AzureKeyCredential, TokenCredential
from azure.core.pipeline.policies import AzureKeyCredentialPolicy
from azure.identity import DefaultAzureCredential

import lapse

POLICIES = {"thread": "chat", "assistant": "agents"}


def main(credential: TokenCredential) -> None:
    """Make an agent and a thread that runs on it: the thread keeps the agent alive."""
    endpoint = os.environ["FOUNDRY_ENDPOINT"]
    options = {"per_call_policies": [lapse.azure_policy(endpoint, provider="foundry", policies=POLICIES)]}
    if endpoint.startswith("http://"):  # a stand-in: azure-core sends no Entra token without TLS
        key = AzureKeyCredential(os.environ["FOUNDRY_KEY"])
        options["authentication_policy"] = AzureKeyCredentialPolicy(key, "Authorization", prefix="Bearer")
    with AgentsClient(endpoint, credential, **options) as client, lapse.context(subject="user:42"):
        agent = client.create_agent(model="gpt-5", name="helper")
        thread = client.threads.create()
        client.messages.create(thread.id, role="user", content="Hello")
        client.runs.create(thread.id, agent_id=agent.id)
        print(thread.id, agent.id)


if __name__ == "__main__":
    main(DefaultAzureCredential())
