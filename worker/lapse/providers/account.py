"""One account at a provider, as the policy file says it. No I/O."""

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Account:
    """One configured provider. The credential itself is never here: only where to find it.

    Attributes:
        name: As policies and applications call it.
        type: The row of ``lapse.providers.kinds.KINDS``.
        base_url: Without a trailing slash.
        api_key_env: The environment variable with the key; or None.
        api_key_file: The file with the key, read again when it changes; or None.
        auth: Another way to authenticate; or None.
        rate: Requests per second, of all workers together; None: unlimited.
        concurrency: Requests in flight per worker process.
        not_found: Further texts by which a compatible server says that an object does not exist.
        api_version: For providers that want one.
        organization: Sent with every request, where given.
        project: Sent with every request, where given.
        allow_plaintext: True if http may leave this machine.
        proof: ``canary`` where an object that lapse makes and deletes itself may prove that others are gone; or None.
        ids: ``opaque`` if answers call an object by another id than the one asked for; None: they do not.
        proxy: The HTTP proxy it is reached through, or ``env`` for what the environment says; None: there is none.
        ca_file: Who may vouch for its certificate, where not the system says so; or None.

    """

    name: str
    type: str
    base_url: str
    api_key_env: str | None
    api_key_file: str | None
    auth: str | None
    rate: float | None
    concurrency: int
    not_found: tuple[str, ...]
    api_version: str | None
    organization: str | None
    project: str | None
    allow_plaintext: bool
    proof: str | None = None
    ids: str | None = None
    proxy: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    @property
    def place(self) -> str:
        """16 hex digits over type, base URL, organisation and project: where an id of this account has a meaning.

        Not the credential: that is rotated.
        """
        parts = (self.type, self.base_url, self.organization or "", self.project or "")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
