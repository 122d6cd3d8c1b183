"""What goes along with the ids of a plan: nothing that it does not name.

A plan may have as many ids as a registry, so what is noted of it stands in a file, not in memory.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Self

from lapse.registry.model import Resource
from lapse.sweep.plan import Companion

SCHEMA = """
CREATE TABLE along (kind TEXT, id TEXT, parent TEXT, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE stayed (kind TEXT, id TEXT, parent_kind TEXT, parent TEXT, uses INT, PRIMARY KEY (kind, id)) WITHOUT ROWID;
"""


class PlannedCompanions:
    """The children that a plan lets go along with their parents, and a note of each other one that was met."""

    def __init__(self) -> None:
        # "": a file that nobody else sees, and that goes with this.
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.executescript(SCHEMA)

    def add(self, companions: Iterable[Companion]) -> None:
        """Take what the plan says may go along."""
        self._db.execute("BEGIN")
        rows = ((one.kind, one.id, one.parent) for one in companions)
        self._db.executemany("INSERT OR IGNORE INTO along VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def along(self) -> Iterator[Companion]:
        """Yield each that was taken, once."""
        for id_, kind, parent in self._db.execute("SELECT id, kind, parent FROM along"):
            yield Companion(id_, kind, parent)

    def may_go(self, child: Resource, parent: Resource, *, uses: bool) -> bool:
        """Return True if the plan says that a child may go along; else note that it stays."""
        if self._db.execute("SELECT 1 FROM along WHERE kind = ? AND id = ?", (child.kind, child.id)).fetchone():
            return True
        row = (child.kind, child.id, parent.kind, parent.id, uses)
        self._db.execute("INSERT OR IGNORE INTO stayed VALUES (?, ?, ?, ?, ?)", row)
        return False

    def stayed(self) -> Iterator[tuple[str, str]]:
        """Yield each child that was met and did not go along, and why."""
        for kind, id_, parent_kind, parent, uses in self._db.execute("SELECT * FROM stayed"):
            owner = f"{parent_kind} {parent}"
            whose = f"a {kind} that uses {owner}, so both stay" if uses else f"a {kind} of {owner}"
            yield id_, f"the plan does not say that it goes along: {whose}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._db.close()
