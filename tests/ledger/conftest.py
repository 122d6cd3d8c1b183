"""A sweep's parts over a real Redis and the provider stand-in on a real socket."""

from support.sandbox_fixture import sandbox, sandbox_server
from support.world import world

__all__ = ["sandbox", "sandbox_server", "world"]
