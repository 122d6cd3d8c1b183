"""A sweep's parts over a real Redis and the provider stand-in on a real socket."""

from sandbox_fixture import sandbox, sandbox_server
from world import world

__all__ = ["sandbox", "sandbox_server", "world"]
