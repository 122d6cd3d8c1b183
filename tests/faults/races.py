"""The application speaks of ids while they are being deleted, at any size."""

import random
import threading
from collections import Counter

from deployment import policy
from faults.rig import Rig


def said_while_swept(rig: Rig, *, ids: int, seed: int, within: float) -> Counter[tuple[str, str]]:
    """Hold, touch and forget ids at random while a worker deletes them; return what was answered how often."""
    rig.configure(policy(ttl="4s").replace("created_at", "last_active_at") + 'touches = "none"\n')
    rig.provider.faults([{"latency": "20ms"}])
    registered = rig.seed(ids)
    rig.beat()
    rig.worker(children=2)
    rig.wait_until(rig.traffic.deletes, what="the first deletion")
    speakers = [
        threading.Thread(target=_speak, args=(rig, op, registered, seed))
        for seed, op in enumerate(("hold", "touch", "forget"), seed)
    ]
    for speaker in speakers:
        speaker.start()
    for speaker in speakers:
        speaker.join(within)
    spoken = rig.application.said("hold", "touch", "forget")
    stays = {one.resource.id for one in spoken if one.verb != "touch" and one.answer != "too_late"}
    rig.gone([id_ for id_ in registered if id_ not in stays], within)
    rig.judge(within=within)
    return Counter((one.verb, one.answer) for one in spoken)


def _speak(rig: Rig, verb: str, ids: list[str], seed: int) -> None:
    """Speak of ids that are being claimed right now: they go in the order of registration, a round trip's by name."""
    chosen, order = random.Random(seed), [id_ for at in range(0, len(ids), 500) for id_ in sorted(ids[at : at + 500])]
    for _ in range(len(ids) // 4):
        now = len(rig.traffic.deletes())
        if now >= len(order):
            return
        getattr(rig.application, verb)(chosen.choice(order[max(0, now - 8) : now + 40]))
