"""``make test-faults``: Redis is away for half a minute, twice, among ten thousand creates, and two processes die."""

import pytest

from faults import away
from faults.rig import Rig

pytestmark = pytest.mark.timeout(900)


def test_ten_thousand_created_while_redis_is_away_are_registered_in_the_end(rig: Rig) -> None:
    away.created_while_away(rig, ids=10_000, rate=100, away=30)
