"""What a worker, beat and their broker ask of Redis names keys of one hash slot, command by command."""

from support import slots
from support.deployment import Deployment, policy


def test_of_worker_beat_and_broker_every_command_has_keys_of_one_slot(deployment: Deployment) -> None:
    deployment.configure(policy(), policy("talk", kind="conversation"), policy("later", ttl="30d"))
    with slots.watched(deployment.url) as watch:
        worker = deployment.worker(children=2)
        deployment.beat()
        deployment.seed(5)
        deployment.seed(2, "talk", "conversation", uses=[("thread", "thread_used"), ("file", "file_used")])
        held, *_ = deployment.seed(2, "later")
        deployment.registry.hold("thread", held, reason="case 7")
        deployment.wait_until(
            lambda: (len(deployment.alive()), len(deployment.alive("conversation"))) == (2, 0), what="deletions"
        )
        deployment.wait_until(lambda: deployment.raw.hget("lapse:published", "tick"), what="housekeeping")
        assert (0, True) == (worker.stop()[0], held in deployment.alive())

    assert watch.looked > 300
