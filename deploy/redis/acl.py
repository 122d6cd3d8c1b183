"""Write the Redis users of applications from the table in docs/stored-format.md; ``make acl`` runs it.

``lapse.conf`` is for Redis 7 and Valkey. ``lapse-6.2.conf`` is the same without what Redis 6.2 does not know,
``lapse-cluster.conf`` with what a cluster asks for besides.
"""

import re
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "stored-format.md"
CONF, CONF_62 = HERE / "lapse.conf", HERE / "lapse-6.2.conf"
CONF_CLUSTER = HERE / "lapse-cluster.conf"

_PREFIXES = {"policy": "lapse:{*:*}:*:", "slot": "lapse:{*:*}:", "namespace": "lapse:"}
_ROW = re.compile(r"^\| `(?P<key>[^`]+)` \| (?P<type>\w+) \| (?P<right>-|r|rw) \|")
_SELECTED = {"rw": "~", "r": "%R~"}


def rows() -> Iterator[tuple[str, str, str]]:
    """Yield each key of the table as a pattern, with its type and what an application's user may do with it."""
    of = ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## Keys of a (\w+)", line):
            of = _PREFIXES[heading[1]]
        if row := _ROW.match(line):
            yield of + re.sub(r"[A-Z]+", "*", row["key"]), row["type"], row["right"]


def patterns() -> list[str]:
    """Return an application's key patterns: those of the table, and the prefix that its scripts are called with."""
    told = [f"{_SELECTED[right]}{key}" for key, _, right in rows() if right in _SELECTED]
    return [f"~{_PREFIXES['slot']}", *told]


def current(text: str) -> str:
    """Return ``lapse.conf`` with the application's keys as the table has them."""
    return re.sub(
        r"(?m)^(user lapse-application .*?resetkeys ).*?( resetchannels )", rf"\1{' '.join(patterns())}\2", text
    )


def older(text: str) -> str:
    """Return the same for Redis 6.2."""
    text = re.sub(
        r"(?m)^# Redis 7\.0 knows no client\|setinfo.*\n", "# Redis 6.2 knows no right to read alone.\n", text
    )
    return text.replace("%R~", "~").replace("+client|setinfo ", "").replace("lapse.conf", CONF_62.name)


def clustered(text: str) -> str:
    """Return the same for a cluster, where a script declares its keys: with each it may do anything, or be refused."""
    text = re.sub(
        r"(?m)^# Redis 7\.0 knows no client\|setinfo.*\n",
        "# On a cluster, a key of a slot that a script declares is one that its user may write to.\n",
        text,
    )
    text = text.replace("%R~lapse:{", "~lapse:{").replace("lapse.conf", CONF_CLUSTER.name)
    return text.replace("+evalsha ", "+evalsha +eval +asking +cluster|slots +command ")


if __name__ == "__main__":
    made = current(CONF.read_text(encoding="utf-8"))
    CONF.write_text(made, encoding="utf-8")
    CONF_62.write_text(older(made), encoding="utf-8")
    CONF_CLUSTER.write_text(clustered(made), encoding="utf-8")
