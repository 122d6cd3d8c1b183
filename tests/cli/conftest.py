"""An operator's desk for each test."""

from support.commandline import desk
from support.sandbox_fixture import sandbox, sandbox_server

__all__ = ["desk", "sandbox", "sandbox_server"]
