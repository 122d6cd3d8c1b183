"""The application of compose.yaml: it makes conversations, registers them, comes back to some, and leaves the rest."""

import json
import os
import secrets
import signal
import sys
import time
import urllib.request

from lapse import Registry

EVERY = float(os.environ.get("EVERY", "0.5"))  # seconds between two conversations
IN_USE = 20  # of the newest conversations somebody comes back to


def create() -> str:
    """Make a conversation at the provider and return its id."""
    request = urllib.request.Request(
        os.environ["PROVIDER_URL"] + "/conversations",
        data=b"{}",
        headers={"Authorization": f"Bearer {os.environ['DEMO_API_KEY']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return str(json.load(reply)["id"])


def main() -> None:
    """Go on until the process is told to end: as the first of its container it would not by itself."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    registry = Registry(provider="sandbox", on_error="log")
    newest: list[str] = []
    while True:
        try:
            conversation = create()
        except OSError as error:
            print(f"the provider did not answer: {error}", flush=True)
            time.sleep(2)
            continue
        registry.register("conversation", conversation, secrets.choice(["chat", "chat", "tickets"]))
        newest = [*newest, conversation][-IN_USE:]
        registry.touch("conversation", secrets.choice(newest))
        time.sleep(EVERY)


if __name__ == "__main__":
    main()
