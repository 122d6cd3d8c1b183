"""Registrations from a file: JSON objects alone, or the log of an application with the registrations that were lost."""

from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from inspect import signature
from typing import Any

from lapse import Registry
from lapse.cli.operate import lost
from lapse.cli.operate.lost import NAMES, NotSaid
from lapse.cli.progress import Advance
from lapse.errors import ConfigError, InvalidResource
from lapse.providers.kinds import singular
from lapse.registry.commands import BULK, Commands

SHOWN = 20
FIELDS = signature(Registry.register).parameters.keys() - {"self"}
NO_REGISTRATION = "not a registration"


@dataclass(slots=True)
class Told:
    """What came of a file.

    Attributes:
        registered: Ids registered.
        new: How many of them were not tracked before.
        unmanaged: How many of them no worker manages.
        refused: Lines that could not be registered.
        problems: The first of them, each ``line: what``.
        skipped: Why lines were left out -> how many.

    """

    registered: int = 0
    new: int = 0
    unmanaged: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def nothing(self) -> bool:
        """True if there are lines, and lapse's logger or whoever wrote the file registers by none of them."""
        return not (self.registered or self.refused) and self.skipped.keys() == {NO_REGISTRATION}

    @property
    def more(self) -> int:
        """How many problems are not listed."""
        return self.refused - len(self.problems)

    def refuse(self, line: int, why: str) -> None:
        """Count a line that cannot be registered, and list the first ones."""
        self.refused += 1
        if self.refused <= SHOWN:
            self.problems.append(f"{line}: {why}")

    def as_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {**asdict(self), "skipped": dict(self.skipped)}


def replay(registry: Registry, checker: Commands, lines: Iterable[bytes], policy: str | None, advance: Advance) -> Told:
    """Register every line that says what to register; report the others.

    The first line that can be read decides what the file is: of registrations alone, if it is one, else a log.

    Args:
        registry: Where to.
        checker: What a line is checked with before it is sent with others.
        lines: The file.
        policy: The policy of lines that name none.
        advance: Told how many bytes and lines are done.

    Raises:
        RegistryUnavailable: the registry was lost half way; running the file again does no harm.

    """
    told, waiting = Told(), list[dict[str, Any]]()
    alone: bool | None = None
    read = 0
    for number, line in enumerate(lines, 1):
        read += len(line)
        text = line.removeprefix(BOM_UTF8) if number == 1 else line
        if not text.strip():
            continue
        if alone is None:
            alone = _is_registration(text, told, number)
        given = None if alone is None else _said(text, told, number, alone=alone)
        if given is None:
            continue
        if policy is not None:
            given.setdefault("policy", policy)
        if _acceptable(checker, given, told, number):
            waiting.append(given)
        if len(waiting) >= BULK:
            _register(registry, waiting, told)
            advance(read, number)
    _register(registry, waiting, told)
    return told


def _register(registry: Registry, waiting: list[dict[str, Any]], told: Told) -> None:
    done = registry.register_many(waiting)
    told.registered += done.registered
    told.new += done.new
    told.unmanaged += done.unmanaged
    waiting.clear()


def _is_registration(line: bytes, told: Told, number: int) -> bool | None:
    """Return whether a line is a registration; of one that may be meant so and is refused, None: the next decides."""
    try:
        return lost.registration(lost.read(line)) is not None
    except NotSaid as error:
        if not _may_say(line):
            return False
        told.refuse(number, str(error))
        return None


def _said(line: bytes, told: Told, number: int, *, alone: bool) -> dict[str, Any] | None:
    """Return what a line registers, or None: another log line, another call's warning, or one that is refused."""
    try:
        text = lost.read(line)
        facts = lost.registration(text) if alone else lost.warning(text)
    except NotSaid as error:
        if alone or _may_say(line):
            told.refuse(number, str(error))
        else:
            told.skipped[NO_REGISTRATION] += 1
        return None
    if facts is None:
        if alone:
            told.refuse(number, "no registration, in a file that begins with one")
        else:
            told.skipped[NO_REGISTRATION] += 1
        return None
    if "call" in facts:
        call = str(facts["call"])[:20]
        name = call if call.isidentifier() and call.isascii() else "call"
        told.skipped[f"the warning of a {name}, which this command does not repeat"] += 1
        return None
    return {name: value for name, value in facts.items() if name != "error"}


def _may_say(line: bytes) -> bool:
    """Return True if a line that cannot be read may be meant as a registration."""
    return lost.LOST.strip().encode() in line or all(f'"{name}"'.encode() in line for name in ("kind", "id"))


def _acceptable(checker: Commands, given: dict[str, Any], told: Told, number: int) -> bool:
    """Return True if a line can be registered; its kind may be a plural."""
    unknown = sorted(given.keys() - FIELDS)
    missing = sorted(NAMES - given.keys())
    if unknown or missing:
        names = f"no {', '.join(missing)}" if missing else f"{', '.join(unknown)}: there is no such field"
        told.refuse(number, names)
        return False
    given["kind"] = _known(given["kind"])
    try:
        checker.registration(**given)
    except (InvalidResource, ConfigError, TypeError, ValueError) as error:
        told.refuse(number, str(error))
        return False
    return True


def _known(kind: object) -> object:
    """Return the singular of a kind; of one that this version does not know, what was written."""
    try:
        return singular(kind) if isinstance(kind, str) else kind
    except ConfigError:
        return kind
