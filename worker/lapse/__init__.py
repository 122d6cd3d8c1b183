"""lapse: register what an application leaves behind at AI providers, and have it deleted when its policy says so.

This is the application's half; it needs redis and nothing else.
"""

from importlib.metadata import version as _version

from lapse.errors import (
    ConfigError,
    InvalidResource,
    LapseError,
    NoEpoch,
    RegistryError,
    RegistryRefused,
    RegistryUnavailable,
)
from lapse.registry.aio import AsyncRegistry
from lapse.registry.client import Registry
from lapse.registry.commands import Bulk
from lapse.registry.model import Answer, Hold, Record, Registered, Resource

__version__ = _version("lapse")

__all__ = [
    "Answer",
    "AsyncRegistry",
    "Bulk",
    "ConfigError",
    "Hold",
    "InvalidResource",
    "LapseError",
    "NoEpoch",
    "Record",
    "Registered",
    "Registry",
    "RegistryError",
    "RegistryRefused",
    "RegistryUnavailable",
    "Resource",
    "__version__",
]
