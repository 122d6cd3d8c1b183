"""A script: what it makes is gone when it ends, also when it fails; what it keeps goes by its policy."""

from openai import OpenAI

import lapse

POLICIES = {"file": "scripts", "conversation": "scripts"}


def main() -> None:
    """Ask about a file, and keep the conversation."""
    client = lapse.track(OpenAI(), provider="openai", policies=POLICIES)
    with client, lapse.scope(client, wait=True) as created:
        file = client.files.create(file=("notes.txt", b"Water boils at 100 degrees."), purpose="user_data")
        conversation = client.conversations.create()
        question = [{"type": "input_file", "file_id": file.id}, {"type": "input_text", "text": "When does it boil?"}]
        client.responses.create(
            model="gpt-5", store=False, conversation=conversation.id, input=[{"role": "user", "content": question}]
        )
        created.keep("conversation", conversation.id)
        print(conversation.id)


if __name__ == "__main__":
    main()
