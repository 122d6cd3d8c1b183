"""A sweep's real parts, for runs in which one guard is taken out."""

from sandbox_fixture import sandbox, sandbox_server
from world import world

__all__ = ["sandbox", "sandbox_server", "world"]
