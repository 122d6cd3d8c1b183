"""The provider does what was asked and its answer is lost."""

from faults import provider
from faults.rig import Rig
from oracle.reading import metrics


def test_a_deletion_whose_answer_was_lost_is_gone_already_and_counted_once(rig: Rig) -> None:
    lost = {"method": "DELETE", "effect": "reset", "execute": True, "first": 10}

    history = provider.misbehaving(rig, [lost], ids=40, within=30)

    settled = {
        outcome: value
        for (series, labels), value in metrics(history.metrics or "").items()
        for name, outcome in labels
        if series == "lapse_settled_total" and name == "outcome" and value
    }
    assert settled == {"deleted": 1 + 30, "already_gone": 10, "error": 10}
