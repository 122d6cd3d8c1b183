"""Fields of what is stored as hashes and JSON: docs/stored-format.md names each that the code reads or writes."""

import re

from lapse.registry.scripts import PACKAGE
from support.deploykit import ROOT
from support.lua import PARTS, SCRIPTS, source

DOCUMENT = (ROOT / "docs" / "stored-format.md").read_text(encoding="utf-8")
LUA = "\n".join(re.sub(r"--.*", "", source(name)) for name in SCRIPTS | PARTS)
PYTHON = "\n".join(path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py")))


def documented(heading: str) -> set[str]:
    section = DOCUMENT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"(?m)^\| `(\w+)` \|", section))


def test_every_field_of_a_record() -> None:
    assert documented("A record") == set(re.findall(r"\brecord\.([a-z])\b", LUA))


def test_every_field_of_the_rules() -> None:
    calls = re.findall(r"redis\.call\('H\w+', (?:part\([^()]*, 'rules'\)|rules)((?:, [^()]+|\([^()]*\))*)\)", LUA)
    used = {name for call in calls for name in re.findall(r"'([a-z_]+)'", call)}
    used |= set(re.findall(r"'rules'\), '([a-z_]+)'", LUA))
    noted = re.findall(r"ledger\.note\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)", PYTHON)
    used |= {name for call in noted for name in re.findall(r"(?<![\w.])([a-z_]+)=(?!=)", call)} - {
        "policy"
    }  # an argument of audits' own

    assert used - documented("The rules of a policy") == set()
    assert not [name for name in documented("The rules of a policy") if not re.search(rf"\b{name}\b", LUA + PYTHON)]
