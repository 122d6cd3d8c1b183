"""lapse: register what an application leaves behind at AI providers, and have it deleted when its policy says so.

This is the application's half; it needs redis and nothing else.
"""

import importlib as _importlib
import typing as _typing
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
from lapse.registry.model import Answer, Bulk, Hold, Record, Registered, Resource, SubjectAnswer, SubjectPage

if _typing.TYPE_CHECKING:
    from lapse.registry.pools.credentials.entra import RedisEntraCredentials
    from lapse.registry.pools.credentials.iam import IamCredentials
    from lapse.tracking.azure import azure_policy
    from lapse.tracking.context import context, untracked
    from lapse.tracking.notices import counts as tracked_counts
    from lapse.tracking.scope import scope
    from lapse.tracking.track import track, track_http

__version__ = _version("lapse")

__all__ = [
    "Answer",
    "AsyncRegistry",
    "Bulk",
    "ConfigError",
    "Hold",
    "IamCredentials",
    "InvalidResource",
    "LapseError",
    "NoEpoch",
    "Record",
    "RedisEntraCredentials",
    "Registered",
    "Registry",
    "RegistryError",
    "RegistryRefused",
    "RegistryUnavailable",
    "Resource",
    "SubjectAnswer",
    "SubjectPage",
    "__version__",
    "azure_policy",
    "context",
    "scope",
    "track",
    "track_http",
    "tracked_counts",
    "untracked",
]

_LATER = {
    "IamCredentials": "registry.pools.credentials.iam",
    "RedisEntraCredentials": "registry.pools.credentials.entra",
    "azure_policy": "tracking.azure",
    "context": "tracking.context",
    "scope": "tracking.scope",
    "track": "tracking.track",
    "track_http": "tracking.track",
    "tracked_counts": "tracking.notices",
    "untracked": "tracking.context",
}
"""What is loaded when it is first asked for -> its module."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'lapse' has no attribute {name!r}")
    module = _importlib.import_module(f"lapse.{_LATER[name]}")
    found: object = getattr(module, "counts" if name == "tracked_counts" else name)
    globals()[name] = found
    return found
