"""The registry's scripts and their parts by name, wherever they lie in the package."""

from lapse.registry.scripts import PACKAGE, Script, script

_FOUND = sorted(path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.lua"))
SCRIPTS = {path.name: path.as_posix() for path in _FOUND if path.parent.name != "include"}
PARTS = {path.name: path.as_posix() for path in _FOUND if path.parent.name == "include"}


def named(name: str) -> Script:
    """Return a script as Redis gets it."""
    return script(SCRIPTS[name])


def source(name: str) -> str:
    """Return the text of one file."""
    return (PACKAGE / f"{(SCRIPTS | PARTS)[name]}.lua").read_text(encoding="utf-8")
