"""``make test-faults``: ten thousand holds, touches and forgets, each against the claim of the same id."""

import pytest

from faults import races
from faults.rig import Rig

pytestmark = pytest.mark.timeout(900)
TIMES = 10_000


def test_what_is_said_ten_thousand_times_counts_or_is_too_late(rig: Rig) -> None:
    answered = races.said_while_swept(rig, ids=20_000, says=TIMES, seed=1, within=300)

    for verb in races.VERBS:
        assert sum(times for (said, _answer), times in answered.items() if said == verb) == TIMES
        assert answered[verb, "ok"] > TIMES // 20
        assert answered[verb, "too_late"] > TIMES // 20
