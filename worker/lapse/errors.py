"""Every error lapse raises on purpose, under one root.

LapseError
├── ConfigError         the policy file, the environment or a constructor argument is wrong
├── InvalidResource     a provider, kind, id, policy, text or time that cannot be stored
│   ├── UnknownKind           a kind that neither this client nor a worker knows
│   └── TooManyUses           more uses than a call, or an id, may have
├── RegistryError       the registry cannot be used
│   ├── RegistryUnavailable   Redis did not answer within the time allowed
│   │   ├── SlotUnavailable       a cluster cannot serve one kind's hash slot
│   │   └── Unreplicated          it is written, and too few replicas have it
│   └── RegistryRefused       Redis answered, and refused to write
├── NoEpoch             the registry has not been opened by a worker yet
└── SpoolUnusable       the spool cannot be written or read
    └── SpoolBusy             another process was writing into it
"""

from typing import Any


class LapseError(Exception):
    """The root of every error lapse raises on purpose."""


class ConfigError(LapseError):
    """The policy file, the environment or a constructor argument is wrong; the text names it and the fix."""


class InvalidResource(LapseError, ValueError):
    """A provider, kind, id, policy, text or time that cannot be stored; nothing was written."""


class UnknownKind(InvalidResource):
    """A kind that neither this client nor a worker knows: under it a hold would protect nothing."""


class TooManyUses(InvalidResource):
    """More uses than one call, or one id, may have. Orphans of the kinds that it names are collected no more.

    ``unsaid``: what tells these kinds so.
    """

    def __init__(self, text: str, unsaid: tuple[Any, ...] = ()) -> None:
        super().__init__(text)
        self.unsaid = unsaid


class RegistryError(LapseError):
    """The registry cannot be used; whether a write took effect is unknown unless the text says so."""


class RegistryUnavailable(RegistryError):
    """Redis did not answer within the time allowed: connecting, retrying and the reply together."""


class SlotUnavailable(RegistryUnavailable):
    """A cluster cannot serve one hash slot now, of one kind at one provider; others it may."""


class Unreplicated(RegistryUnavailable):
    """It is written, and fewer replicas have it than ``[registry] replicas`` says: a failover may lose it."""


class RegistryRefused(RegistryError):
    """Redis answered and refused the write: out of memory, read-only, loading, or not permitted."""


class NoEpoch(LapseError):
    """The registry has no epoch yet: a worker makes it when it first starts."""


class SpoolUnusable(LapseError):
    """A spool that cannot be made, written or read, is full, or is of another version; the text names it."""


class SpoolBusy(SpoolUnusable):
    """Another process was writing into the spool for as long as a call may wait."""
