"""The witness file: what one host remembers of its registry, for the time after a restart of everything."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from lapse.errors import ConfigError
from lapse.guards.integrity.continuity import ClockOffset, Known
from lapse.policy import Config
from lapse.policy.reload import lasting, state_folder
from lapse.registry.disk import sync_folder

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class StateFile:
    """One file, shared by the processes of a host: replaced as a whole, so a reader never sees half of it."""

    def __init__(self, path: Path, namespace: str) -> None:
        self.path = path
        self._namespace = namespace

    def load(self) -> Known | None:
        """Return what the file says, or None before the first time.

        Raises:
            ConfigError: it cannot be read, is no witness file, or is that of another namespace.

        """
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            if stored["namespace"] != self._namespace:
                raise ConfigError(
                    f"[registry] witness_file {self.path} is that of namespace {stored['namespace']!r}: give "
                    f"{self._namespace!r} a file of its own"
                )
            span = ClockOffset(*stored["offset"]) if stored["offset"] and stored["boot"] == _boot() else None
            return Known(
                str(stored["epoch"]),
                int(stored["sequence"]),
                int(stored["at"]),
                offset=span,
                looked=int(stored["looked"]) if span else 0,
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"[registry] witness_file {self.path} cannot be read ({error!r}): it says which registry this host "
                "knew. Mend it, or remove it to trust the registry that is there now"
            ) from None

    def save(self, known: Known) -> None:
        """Write what is known, on disk when this returns.

        Raises:
            OSError: it was not written; what was there before stands.

        """
        if (stored := self._stored()) and stored.epoch == known.epoch and stored.sequence > known.sequence:
            return  # another process has seen more
        text = json.dumps(
            {
                "namespace": self._namespace,
                "epoch": known.epoch,
                "sequence": known.sequence,
                "at": known.at,
                "offset": list(asdict(known.offset).values()) if known.offset else None,
                "looked": known.looked,
                "boot": _boot(),
            }
        )
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            with fresh.open("w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except OSError:
            with suppress(OSError):
                fresh.unlink()
            raise
        sync_folder(self.path.parent)

    def _stored(self) -> Known | None:
        try:
            return self.load()
        except ConfigError:
            return None


def state_file_of(config: Config, environ: Mapping[str, str]) -> StateFile | None:
    """Return the file in which a host remembers its registry: the one named, else one in its state folder."""
    named, namespace = config.registry.witness_file, config.registry.namespace
    if named or state_folder(environ):
        return StateFile(lasting(named or f"{namespace}.witness.json", environ), namespace)
    return None


def _boot() -> str:
    """Return what tells this start of the host from others; the local clock of another start says nothing."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""
