"""How one type of provider is talked to: the fields of the table. No I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lapse.providers.kinds.kind import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One type of provider, as ``[providers.NAME] type`` names it.

    Attributes:
        kinds: What it can delete, by name.
        key_header: The header that a key travels in, as a bearer token where that is ``Authorization``.
        key_example: Name of a variable that such a key is usually in.
        base_url: Where it is unless configured; None: that has to be configured.
        example: A base URL as it should look.
        hosts: The provider's own hosts, subdomains included: a base URL there has to have one of ``ends``.
        ends: Patterns of the whole path of such a base URL.
        takes: Keys of the provider's table that have a meaning for this type and not for all.
        api_version: What ``api-version`` is unless configured; None: none is sent.
        versioned: Pattern of the paths that are not served without an ``api-version``.
        scopes: Pattern of a base URL's path -> what an Entra token is asked for there, the first that fits; none:
            there are only keys.

    """

    kinds: Mapping[str, Kind]
    key_header: str = "Authorization"
    key_example: str
    base_url: str | None = None
    example: str
    hosts: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    takes: frozenset[str] = frozenset()
    api_version: str | None = None
    versioned: str | None = None
    scopes: Mapping[str, str] = field(default_factory=dict)

    def scope(self, path: str) -> str | None:
        """Return what an Entra token is asked for at a base URL with this path; None where there are only keys."""
        return next((scope for pattern, scope in self.scopes.items() if re.fullmatch(pattern, path)), None)


def by_name(*kinds: Kind) -> Mapping[str, Kind]:
    """Return kinds by their names."""
    return {kind.name: kind for kind in kinds}
