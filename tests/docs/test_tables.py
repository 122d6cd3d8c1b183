"""Tables of the documents that something else decides: metrics, policies, what the stand-in can do wrong."""

import re

from docs.blocks import DOCS
from lapse.cli.exit_codes import Code
from lapse.metrics.catalog import TABLE
from lapse.policy.schema import Policy
from lapse.sandbox.faults import EFFECTS


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_the_metrics_table_is_what_is_served() -> None:
    rows = [f"| `{one.name}` | {one.type} | {', '.join(one.labels) or 'none'} | {one.help} |" for one in TABLE]

    assert [] == [row for row in rows if row not in page("reference/metrics.md")]
    assert len(rows) == len(re.findall(r"^\| `lapse_", page("reference/metrics.md"), re.MULTILINE))


def test_the_policy_table_names_keys_that_exist() -> None:
    table = page("reference/policies.md")
    named = {key for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for key in re.findall(r"`([a-z_]+)", row)}

    assert named <= set(Policy.model_fields)
    assert set(Policy.model_fields) - named <= {"expires_after", "cascade", "cancel"}


def test_the_effects_of_a_fault_script_are_those_that_there_are() -> None:
    table = page("howto/testing-policies.md").split("| effect | |")[1].split("\n\n")[0]

    assert [f"| `{name}` | {text} |" for name, text in EFFECTS.items()] == table.strip().splitlines()[1:]


def test_every_exit_code_is_told() -> None:
    assert [str(int(code)) for code in Code] == re.findall(
        r"^\| (\d+) \|", page("reference/exit-codes.md"), re.MULTILINE
    )
