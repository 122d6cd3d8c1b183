"""How a command ends: its exit code, and the error that carries one."""

from enum import IntEnum

from lapse.errors import ConfigError, InvalidResource, LapseError, NoEpoch, RegistryError, SpoolUnusable


class Code(IntEnum):
    """The exit codes of every command."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    TEMPORARY = 4
    PARTIAL = 5
    HALTED = 6
    LIMITED = 7
    CONFIRM = 8
    INTERRUPTED = 130


class Refused(LapseError):
    """A command that ends with a message and a code; nothing more was done than its output says."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def code_of(error: LapseError) -> Code:
    """Return the exit code of an error that lapse raises on purpose."""
    if isinstance(error, Refused):
        return error.code
    if isinstance(error, ConfigError | InvalidResource):
        return Code.USAGE
    if isinstance(error, RegistryError | NoEpoch | SpoolUnusable):
        return Code.TEMPORARY
    return Code.UNEXPECTED
