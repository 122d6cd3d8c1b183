"""An operator's desk for each test."""

from commandline import desk
from sandbox_fixture import sandbox, sandbox_server

__all__ = ["desk", "sandbox", "sandbox_server"]
