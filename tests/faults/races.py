"""The application speaks of ids while they are being deleted, at any size."""

import random
import threading
import time
from collections import Counter

from faults.rig import Rig
from faults.traffic import Exchange
from support.deployment import policy

VERBS = ("hold", "touch", "forget")
AHEAD = 60  # ids; what two processes have claimed, and what they will claim next
STALLED = 10.0  # seconds without a deletion: everything else is held or forgotten


class Front:
    """How far deletions have come: they go in the order of registration, a round trip's by name."""

    def __init__(self, rig: Rig, ids: list[str]) -> None:
        self.order = [id_ for at in range(0, len(ids), 500) for id_ in sorted(ids[at : at + 500])]
        self.at = 0
        self._places = {id_: place for place, id_ in enumerate(self.order)}
        rig.traffic.on_request = self._see

    def near(self, chosen: random.Random) -> str:
        """Return an id that is being claimed about now."""
        return chosen.choice(self.order[max(0, self.at - 8) : self.at + AHEAD])

    def reached(self, share: float) -> bool:
        """Wait until this share of all was passed; return False if it will not be."""
        at, since = self.at, time.monotonic()
        while self.at < share * len(self.order):
            if self.at != at:
                at, since = self.at, time.monotonic()
            if time.monotonic() > since + STALLED:
                return False
            time.sleep(0.001)
        return True

    def _see(self, exchange: Exchange) -> None:
        if exchange.method == "DELETE":
            self.at = max(self.at, self._places.get(exchange.id, 0))


def said_while_swept(rig: Rig, *, ids: int, says: int, seed: int, within: float) -> Counter[tuple[str, str]]:
    """Hold, touch and forget ids while a worker deletes them, each so often; return how often what was answered."""
    rig.configure(policy(ttl="4s").replace("created_at", "last_active_at") + 'touches = "none"\n')
    rig.provider.faults([{"latency": "20ms"}])
    registered = rig.seed(ids)
    front = Front(rig, registered)
    rig.beat()
    rig.worker(children=2)
    rig.wait_until(lambda: front.at, what="the first deletion")
    speakers = [
        threading.Thread(target=_speak, args=(rig, op, front, says, seed)) for seed, op in enumerate(VERBS, seed)
    ]
    for speaker in speakers:
        speaker.start()
    for speaker in speakers:
        speaker.join(within)
    spoken = rig.application.said(*VERBS)
    # What came too late for a claim stands all the same, if the claim was given back or failed.
    stays = {one.resource.id for one in spoken if one.verb != "touch"}
    rig.gone([id_ for id_ in registered if id_ not in stays], within)
    rig.judge(within=2 * within)
    return Counter((one.verb, one.answer) for one in spoken)


def _speak(rig: Rig, verb: str, front: Front, says: int, seed: int) -> None:
    chosen = random.Random(seed)
    for number in range(says):
        if not front.reached(0.9 * number / says):
            return
        getattr(rig.application, verb)(front.near(chosen))
