"""What lapse doctor makes of the requests to erase a subject, and how they are told."""

import json
from dataclasses import replace

from lapse.cli.doctor.erasures import erasures
from lapse.guards.integrity.preflight import Finding, Level
from lapse.ledger.erasure.request import ErasureRequest
from lapse.metrics.erasures import ErasureStanding
from lapse.policy import parse
from support.erasures import CONFIG, DAY, request

NOW = 1_800_000_000_000
USED = parse(CONFIG, "retention.toml", {})


def judged(*found: ErasureRequest, asked: int = 0) -> Finding:
    ordered = tuple(sorted(found, key=lambda one: one.due))
    return erasures(ErasureStanding({"asked": asked, "open": len(found)}, ordered), USED, NOW)


def test_without_any_all_is_well() -> None:
    assert (Level.OK, "none is open") == (judged().level, judged().detail)
    assert "3 asked by applications and not taken up yet" == judged(asked=3).detail


def test_one_with_time_left_and_nothing_in_its_way_is_fine() -> None:
    found = judged(request(NOW, left=20), request(NOW, left=8), asked=1)

    assert Level.OK == found.level
    said = "2 open, the next due 2027-01-23 08:00:00 UTC (in 8d); 1 asked by applications and not taken up yet"
    assert said == found.detail


def test_one_that_has_to_be_done_soon_is_a_warning() -> None:
    assert Level.WARNING == judged(request(NOW, left=6)).level
    assert Level.WARNING == judged(replace(request(NOW), due=NOW + 7 * DAY - 1)).level
    assert Level.OK == judged(replace(request(NOW), due=NOW + 7 * DAY)).level


def test_what_stands_in_the_way_is_named_once_and_an_account_that_is_gone_has_a_fix() -> None:
    doubtful = request(
        NOW, providers=("openai", "gone"), doubts=("an index is not whole", "provider not configured: gone")
    )

    found = judged(doubtful, doubtful)

    assert Level.WARNING == found.level
    assert found.detail.endswith("; in the way: an index is not whole, provider not configured: gone")
    assert "put [providers.NAME] back" in found.fix
    assert "lapse erase status UUID" in judged(replace(doubtful, providers=(), doubts=("an index",))).fix
    assert "in the way: provider not configured: gone" in judged(replace(doubtful, doubts=())).detail


def test_late_ones_fail_and_the_first_of_them_are_named_without_whose_they_are() -> None:
    late = [request(NOW, age=40, left=-2) for _ in range(6)]

    few, many = judged(*late[:2], request(NOW)), judged(*late)

    assert (Level.FATAL, Level.FATAL) == (few.level, many.level)
    assert few.detail.endswith(f"late: {late[0].id} (due 2d ago), {late[1].id} (due 2d ago)")
    assert many.detail.endswith(f"{late[4].id} (due 2d ago) and more")
    assert "user:42" not in json.dumps([few.detail, many.detail])
