"""Packed commands, read back: what they are, where their key is, and with other keys. No I/O."""

from collections.abc import Iterable

_RUNS = (b"EVALSHA", b"EVAL")
_KEYLESS = frozenset({b"PING", b"TIME", b"SCRIPT", b"INFO", b"CONFIG", b"CLUSTER", b"ACL", b"CLIENT", b"ROLE", b"WAIT"})


def unpacked(command: bytes, most: int | None = None) -> tuple[list[bytes], int]:
    """Return the first parts of a packed command, all unless ``most`` says how many, and where the rest begins."""
    end = command.index(b"\r\n")
    count = int(command[1:end])
    found, at = [], end + 2
    for _ in range(count if most is None else min(most, count)):
        end = command.index(b"\r\n", at)
        begin = end + 2
        at = begin + int(command[at + 1 : end]) + 2
        found.append(command[begin : at - 2])
    return found, at


def key_of(command: bytes) -> bytes | None:
    """Return a command's first key; None if it has none, and any server may answer it."""
    parts, _ = unpacked(command, 4)
    name = parts[0].upper()
    if name in _RUNS:
        return next(iter(parts[3:]), None)  # behind EVALSHA, the digest, and how many keys
    return None if name in _KEYLESS or len(parts) == 1 else parts[1]


def bulk(parts: Iterable[bytes]) -> bytes:
    """Return parts as they stand in a packed command."""
    return b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])
