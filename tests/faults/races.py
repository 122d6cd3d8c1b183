"""The application speaks of ids while they are being deleted, at any size."""

import random
import threading
from collections import Counter

from deployment import policy
from faults.judging import Promise
from faults.rig import Rig

IDLE = {"chat": Promise(ttl=4, idle=True)}


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
    stays = {one.id for one in rig.application.log if one.op in {"hold", "forget"} and one.answer != "too_late"}
    rig.gone([id_ for id_ in registered if id_ not in stays], within)
    rig.judge(IDLE)
    return Counter((one.op, one.answer) for one in rig.application.log)


def _speak(rig: Rig, op: str, ids: list[str], seed: int) -> None:
    chosen = random.Random(seed)
    for id_ in chosen.sample(ids, len(ids) // 4):
        getattr(rig.application, op)("thread", id_)
