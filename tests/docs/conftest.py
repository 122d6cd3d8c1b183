"""The pages are run: against the embedded Redis and the provider stand-in."""

from support.commandline import desk
from support.sandbox_fixture import sandbox, sandbox_server

__all__ = ["desk", "sandbox", "sandbox_server"]
