"""Words that Python and Lua tell each other: each is one of an enum, and each of an enum's is said or read."""

import re

import pytest

from lapse.ledger.claim import Status
from lapse.ledger.reasons import BESIDE, HaltReason
from lapse.ledger.settle import Act
from support.lua import PARTS, SCRIPTS, source

CODE = {name: re.sub(r"--.*", "", source(name)) for name in SCRIPTS | PARTS}
BATCHES = ("claim", "claim_orphans", "claim_planned", "claim_purged", "lease")


def said(pattern: str, *names: str) -> set[str]:
    """Return what a pattern finds in scripts, or in all of them."""
    return {word for name in names or CODE for word in re.findall(pattern, CODE[name])}


def test_acts() -> None:
    read = said(r"\bact == '(\w+)'", "settle", "doubt")
    read |= said(r"(\w+) = '\w+'", "settle") & set(Act)  # the events of the audit, by act

    assert set(Act) == read


def test_statuses_of_a_batch() -> None:
    words = said(r"nothing\('(\w+)'\)", *BATCHES) | said(r"\{ '(\w+)', now", *BATCHES)
    words |= said(r"then return '(\w+)' end", "lease") & set(Status)

    assert set(Status) == words


@pytest.mark.parametrize("name", sorted(CODE))
def test_reasons_of_halts(name: str) -> None:
    assert said(r"\bhalt\([^,]+, '(\w+)'", name) <= set(HaltReason)


def test_halts_beside_which_claims_go_on() -> None:
    (table,) = said(r"local beside = \{([^}]*)\}", "lease")

    assert set(BESIDE) == set(re.findall(r"(\w+) = true", table))
