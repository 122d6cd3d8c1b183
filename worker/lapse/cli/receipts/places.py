"""Where audit files have the answers by which the ids of an erasure were settled: one pass for all of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from lapse.audit import chain, strictjson
from lapse.audit.chain import Sealed
from lapse.audit.verify import lines_of
from lapse.cli.inspect.audit import SETTLING
from lapse.errors import ConfigError
from lapse.ledger.erasure.request import GONE, ErasedId
from lapse.registry.model import Resource

_SETTLING = tuple(f'"event":"{event}"'.encode() for event in SETTLING)


def places(files: Sequence[Path], ids: Iterable[ErasedId]) -> dict[Resource, Sealed]:
    """Return the sealed line of each id that is gone: of several, the one nearest to its answer. Nothing is verified.

    Raises:
        ConfigError: a file cannot be read.

    """
    wanted = {one.resource: one for one in ids if one.fate in GONE and one.at is not None}
    nearest: dict[Resource, tuple[float, Sealed]] = {}
    for sealed, record in _settlements(files) if wanted else ():
        resource = Resource(*(str(record.get(name)) for name in ("provider", "kind", "id")))
        one = wanted.get(resource)
        if one is None or (one.request_id and one.request_id != record.get("request_id")):
            continue
        away = abs(_moment(record) - (one.at or 0))
        if resource not in nearest or away < nearest[resource][0]:
            nearest[resource] = away, sealed
    return {resource: sealed for resource, (_, sealed) in nearest.items()}


def _settlements(files: Sequence[Path]) -> Iterator[tuple[Sealed, Mapping[str, Any]]]:
    """Yield the sealed lines that say that an id left the registry, with what they say."""
    for line in _lines(files):
        if any(event in line for event in _SETTLING) and (sealed := chain.read(line.rstrip(b"\n"))):
            yield sealed, _record(line)


def _lines(files: Sequence[Path]) -> Iterator[bytes]:
    for path in files:
        try:
            yield from lines_of(path)
        except (OSError, EOFError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from None


def _record(line: bytes) -> Mapping[str, Any]:
    with suppress(ValueError):
        record = strictjson.loads(line)
        if isinstance(record, dict) and record.get("event") in SETTLING:
            return record
    return {}


def _moment(record: Mapping[str, Any]) -> float:
    at = record.get("at")
    return at if isinstance(at, int | float) else 0
