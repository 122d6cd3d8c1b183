"""A provider of its own for pods that are played."""

from support.sandbox_fixture import sandbox, sandbox_server

__all__ = ["sandbox", "sandbox_server"]
