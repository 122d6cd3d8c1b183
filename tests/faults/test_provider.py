"""The provider does what was asked and its answer is lost."""

from faults import provider
from faults.judging import samples
from faults.rig import Rig


def test_a_deletion_whose_answer_was_lost_is_gone_already_and_counted_once(rig: Rig) -> None:
    lost = {"method": "DELETE", "effect": "reset", "execute": True, "first": 10}

    history = provider.misbehaving(rig, [lost], ids=40, within=30)

    assert samples(history.metrics, "lapse_settled_total", 'outcome="deleted"') == 1 + 30
    assert samples(history.metrics, "lapse_settled_total", 'outcome="already_gone"') == 10
    assert samples(history.metrics, "lapse_quarantined") == 0
