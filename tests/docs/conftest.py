"""The README is run: against the embedded Redis and the provider stand-in."""

from support.sandbox_fixture import sandbox, sandbox_server

__all__ = ["sandbox", "sandbox_server"]
