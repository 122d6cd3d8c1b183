"""What stands in Python and in Lua: each word is one of an enum, and said or read, and each number is the same."""

import re

import pytest

from lapse.ledger.claim import RAMP_FIRST, RAMP_SHARE, RAMP_STEPS, Status
from lapse.ledger.reasons import BESIDE, HaltReason
from lapse.ledger.settle import LAG_BOUNDS, Act
from lapse.metrics import catalog, snapshot
from lapse.providers import request_counters
from support.lua import PARTS, SCRIPTS, source

CODE = {name: re.sub(r"--.*", "", source(name)) for name in SCRIPTS | PARTS}
BATCHES = ("claim", "claim_orphans", "claim_planned", "claim_purged", "lease", "batch")


def said(pattern: str, *names: str) -> set[str]:
    """Return what a pattern finds in scripts, or in all of them."""
    return {word for name in names or CODE for word in re.findall(pattern, CODE[name])}


def test_acts() -> None:
    read = said(r"\bact == '(\w+)'", "settle", "doubt")
    read |= said(r"(\w+) = '\w+'", "settle") & set(Act)  # the events of the audit, by act

    assert set(Act) == read


def test_statuses_of_a_batch() -> None:
    words = said(r"nothing\('(\w+)'\)", *BATCHES) | said(r"\{ '(\w+)', now", *BATCHES)
    words |= said(r"then return '(\w+)' end", "lease", "batch") & set(Status)

    assert set(Status) == words


@pytest.mark.parametrize("name", sorted(CODE))
def test_reasons_of_halts(name: str) -> None:
    assert said(r"\bhalt\([^,]+, '(\w+)'", name) <= set(HaltReason)


def test_halts_beside_which_claims_go_on() -> None:
    (table,) = said(r"local beside = \{([^}]*)\}", "lease")

    assert set(BESIDE) == set(re.findall(r"(\w+) = true", table))


def test_bounds_of_the_lag() -> None:
    (table,) = said(r"local lag_bounds = \{([^}]*)\}", "settle")

    assert [str(bound) for bound in LAG_BOUNDS] == re.findall(r"\d+", table)
    assert tuple(str(bound) for bound in LAG_BOUNDS) == catalog.LAG_BOUNDS


def test_bounds_of_the_requests() -> None:
    assert tuple(f"{bound:g}" for bound in request_counters.BUCKETS) == catalog.REQUEST_BOUNDS


def test_numbers_of_the_ramp() -> None:
    assert re.findall(r"^local STEPS = (\d+)$", CODE["budget"], re.MULTILINE) == [str(RAMP_STEPS)]
    assert re.findall(r"^local FIRST, SHARE = (.*)$", CODE["budget"], re.MULTILINE) == [f"{RAMP_FIRST}, {RAMP_SHARE}"]
    assert snapshot.RAMP_STEPS == RAMP_STEPS
    assert CODE["budget"].count("10") == 2, "written once"
