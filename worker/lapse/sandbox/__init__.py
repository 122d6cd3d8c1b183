"""A stand-in for the provider: an HTTP server that keeps state as the provider does, and fails on request."""

from lapse.sandbox.process import SandboxProcess
from lapse.sandbox.server import Sandbox, serve

__all__ = ["Sandbox", "SandboxProcess", "serve"]
