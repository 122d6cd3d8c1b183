"""Problems of a policy file in plain sentences, each with the place to look at. No I/O."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import ValidationError

from lapse.policy.positions import Path, Positions

# Their values are credentials, or places where people write one by mistake: never shown.
_SECRET = frozenset(
    {"api_key", "api_key_env", "api_key_file", "auth", "base_url", "broker_url", "key_file", "organization", "url"}
)
_LONGEST = 60
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_UNKNOWN = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
_LITERAL_KEY = re.compile(r"(api|access|secret)?[_-]?(key|token|secret|password|credential)s?")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: The key.
        text: A sentence with the fix; it follows ``key: ``.
        variable: The environment variable that is wrong, where it is about no key.

    """

    path: Path
    text: str
    variable: str | None = None


def shown(value: object) -> str:
    """Return a value as TOML writes it, shortened; tables and arrays only by what they are."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "an array"
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def dotted(path: Path) -> str:
    """Return a key as TOML writes it: ``policies.chat.keep[0].name``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step if _BARE.fullmatch(step) else json.dumps(step)}"
    return text.removeprefix(".")


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``did you mean "x"?``, or all there is if nothing is close."""
    words = sorted(known)
    close = get_close_matches(str(word).lower(), words, n=1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"there is {', '.join(words)}" if words else "there is none"


def unknown_key(key: str, known: Collection[str], elsewhere: Mapping[str, str]) -> str:
    """Return what to say of a key that a table does not have; ``elsewhere``: key -> the table that has it."""
    if "api_key_env" in known and _LITERAL_KEY.fullmatch(key.lower()):
        return (
            "a credential is never written here: put it into an environment variable and name that with"
            " api_key_env, or into a file and name that with api_key_file"
        )
    if key in elsewhere:
        return f"is no key of this table: it belongs into {elsewhere[key]}"
    return f"is no key of this table: {did_you_mean(key, known)}"


_SENTENCES = {
    "missing": "is missing: it has no default",
    "string_type": "{value} is not text: put it in quotes",
    "bool_type": "{value} is neither true nor false (without quotes)",
    "int_type": "{value} is not a whole number (without quotes)",
    "int_from_float": "{value} is not a whole number",
    "float_type": "{value} is not a number (without quotes)",
    "finite_number": "{value} is not a number",
    "string_too_short": "is blank: write a value or leave the key out",
    "list_type": "{value} is not an array: write it as [ ... ]",
    **dict.fromkeys(("dict_type", "model_type", "dataclass_type"), "{value} is not a table: write it as {{ ... }}"),
    "greater_than": "{value} is too small: it has to be more than {gt:g}",
    "greater_than_equal": "{value} is too small: it has to be at least {ge:g}",
    "less_than": '{value} is too large: it has to be less than {lt:g}, or write "unlimited"',
    "less_than_equal": "{value} is too large: it can be {le:g} at most",
    "value_error": "{error}",
}
"""What pydantic finds -> what to say of it."""


def explain(
    error: ValidationError, known: Callable[[Path], Collection[str]], elsewhere: Mapping[str, str]
) -> list[Problem]:
    """Return pydantic's findings; ``known`` returns the keys of the table at a path."""
    problems = []
    for found in error.errors(include_url=False):
        # "[key]" marks that the name of a table is wrong, and not what is in it.
        path: Path = tuple(step for step in found["loc"] if step != "[key]")
        key = str(path[-1])
        value = "its value (not shown)" if key in _SECRET else shown(found["input"])
        if found["type"] in _UNKNOWN:
            text = unknown_key(key, known(path[:-1]), elsewhere)
        elif found["type"] == "literal_error":
            choices = re.findall(r"'([^']+)'", found["ctx"]["expected"])
            text = f"{value} is not a choice: {did_you_mean(found['input'], choices)}"
        else:
            sentence = _SENTENCES.get(found["type"], "{message}")
            text = sentence.format(value=value, message=found["msg"], **found.get("ctx", {}))
        problems.append(Problem(path, text))
    return problems


def report(problems: Iterable[Problem], file: str, positions: Positions, variables: Mapping[Path, str]) -> str:
    """Return one line for each problem, ``file:line: key: what, and the fix``, or the environment variable instead."""
    placed = []
    for problem in problems:
        if problem.variable:
            placed.append((1, 0, f"{problem.variable}: {problem.text}"))
        elif variable := _variable(problem.path, variables):
            placed.append((1, 0, f"{variable}: {dotted(problem.path)}: {problem.text}"))
        else:
            line = positions.line(problem.path)
            placed.append((0, line, f"{file}:{line}: {dotted(problem.path)}: {problem.text}"))
    return "\n".join(text for _, _, text in sorted(dict.fromkeys(placed)))


def _variable(path: Path, variables: Mapping[Path, str]) -> str | None:
    """Return the variable that set a key or made the table around it; None if the file did."""
    return next((variables[path[:depth]] for depth in range(len(path), 0, -1) if path[:depth] in variables), None)
