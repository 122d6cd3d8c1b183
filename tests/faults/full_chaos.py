"""``make test-faults``: several seeds of ``make chaos``, a minute each."""

from pathlib import Path

import pytest

from faults import chaos, nemesis

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("seed", range(20, 25))
def test_everything_breaks_at_random(seed: int, tmp_path: Path) -> None:
    told: list[str] = []

    result = chaos.run(seed, 1, tmp_path, told.append)

    assert result.violations == []
    assert result.good, result.line()
    assert len(told) == result.faults


def test_what_breaks_when_follows_from_the_seed() -> None:
    assert nemesis.schedule(7, 60) == nemesis.schedule(7, 60)
    assert nemesis.schedule(7, 120)[: len(nemesis.schedule(7, 60))] == nemesis.schedule(7, 60)
    assert nemesis.schedule(7, 60) != nemesis.schedule(8, 60)
