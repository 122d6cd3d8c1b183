"""What the application half says in the log: registrations that were lost, and names that no worker knows."""

import json
import logging
from collections.abc import Iterable, Mapping

log = logging.getLogger("lapse")
_said: set[tuple[str, str, str]] = set()


def lost(error: Exception, calls: Iterable[Mapping[str, object]]) -> None:
    """Log failed calls as JSON, a line each; a failed registration carries what ``lapse register --from`` replays."""
    for facts in calls:
        said = json.dumps({"error": str(error), **facts}, separators=(",", ":"), default=str, skipkeys=True)
        log.warning("lapse call failed: %s", said)


def first(facts: Mapping[str, object]) -> bool:
    """Return True once per process for each provider, kind and policy."""
    name = (str(facts["provider"]), str(facts["kind"]), str(facts["policy"]))
    if name in _said:
        return False
    _said.add(name)
    return True


def itself(kind: str, id_: str) -> None:
    """Log that a registration named its own id in ``uses``: that use is not stored, or nothing would ever be due."""
    log.warning("lapse left a use out: %s %s names itself in uses", kind, id_)


def subject_kept(facts: Mapping[str, object]) -> None:
    """Log, once per process for each provider, kind and policy, that a tracked id stays another subject's."""
    name = (str(facts["provider"]), str(facts["kind"]), f"subject of {facts['policy']}")
    if name not in _said:
        _said.add(name)
        log.warning(
            "lapse kept the subject of %s %s: it is tracked as another one's, and no registration changes that",
            facts["kind"],
            facts["id"],
        )


def unmanaged(facts: Mapping[str, object], known: list[str]) -> None:
    """Log that an id was stored under a name that no worker knows, with the nearest name that one does know.

    One that a worker has published and not swept yet is known: nothing is to be corrected, so nothing is said.
    """
    name = f"{facts['provider']}/{facts['kind']}/{facts['policy']}"
    if name in known:
        return
    if not known:
        advice = "no worker has published its policies yet"
    else:
        import difflib  # noqa: PLC0415 - only a wrong name needs it

        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        advice = f"did you mean {near[0]}?" if near else f"workers know {', '.join(sorted(known)[:10])}"
    log.warning("lapse stored %s as unmanaged: no worker knows it, so nothing deletes it; %s", name, advice)
