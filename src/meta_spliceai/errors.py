"""Errors a user can act on.

Every message is one line that names the bad value, where it stands and what to do. The command line prints the
message without a traceback and ends with exit code 2. Anything else that is raised is a defect of this package.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import re
import sys
from collections.abc import Iterable

LONGEST_WORD = 300
"""Characters of a word in a message: a path, or a value from outside without a space."""
LONGEST_VALUE = 120
"""Characters of a value from outside that is quoted in a message."""
LONGEST_MESSAGE = 1000


class MetaSpliceAIError(Exception):
    """Base class of all errors meant for the user. Its message is one line of bounded length, whatever came into it."""

    exit_code = 2

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(str(message)))


def one_line(text: str) -> str:
    """A text as one line: control characters written as \\xNN, words and the whole cut in their middle if very long."""
    text = re.sub(r"[ \t\r\n\f\v]+", " ", text[: 100 * LONGEST_MESSAGE]).strip()
    text = printable(text)
    return _cut(
        re.sub(rf"\S{{{LONGEST_WORD + 1},}}", lambda word: _cut(word.group(), LONGEST_WORD), text), LONGEST_MESSAGE
    )


def printable(text: str) -> str:
    """The text with control characters, line ends and tabs apart, written as \\xNN: none can act on a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


def brief(text: str) -> str:
    """A name from outside for a title or label: one printable line, cut in its middle if long."""
    return _cut(one_line(text), LONGEST_VALUE)


def shown(value: object) -> str:
    """A value from outside for a message: as Python writes it, in one line, cut in its middle if long."""
    if isinstance(value, int) and abs(value) >= 10**40:  # Python refuses to write an endless one
        return "a number of more than 40 digits"
    if isinstance(value, str):
        value = _cut(value, LONGEST_VALUE)
    if isinstance(value, list | tuple | dict | set):
        return f"a {type(value).__name__} of {len(value)}" if sys.getsizeof(value) > 4000 else _of_parts(value)
    return _cut(repr(value), LONGEST_VALUE + 2)


def _of_parts(value: list[object] | tuple[object, ...] | dict[object, object] | set[object]) -> str:
    parts = [f"{shown(k)}: {shown(v)}" for k, v in value.items()] if isinstance(value, dict) else map(shown, value)
    brackets = {list: "[]", tuple: "()"}.get(type(value), "{}")
    return _cut(f"{brackets[0]}{', '.join(parts)}{brackets[1]}", LONGEST_VALUE + 2)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    head = 2 * most // 3
    return f"{text[:head]} … {text[len(text) - (most - head - 3) :]}"


class InputError(MetaSpliceAIError):
    """A file, a table, an option or a value given by the user cannot be used."""


class MissingResourceError(MetaSpliceAIError):
    """Requested weights, data or a download are not available; the message names the alternatives."""


def install_extra(extra: str) -> str:
    """The command that brings an optional extra, wherever this package was installed from: its packages by name."""
    try:
        required = importlib.metadata.requires("meta-spliceai") or []
    except importlib.metadata.PackageNotFoundError:
        required = []
    names = [one.partition(";")[0].strip() for one in required if re.search(rf"extra == ['\"]{extra}['\"]", one)]
    if not names:  # a checkout that is not installed, or was installed before it had the extra
        return f"pip install '.[{extra}]' in the folder of the source"
    return "pip install " + " ".join(f"'{name}'" for name in names)


class MissingExtraError(MetaSpliceAIError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the optional extra '{extra}': {install_extra(extra)}")


class MissingPackageError(MetaSpliceAIError):
    """A package of the standard installation is missing, and the request needs it.

    Training and evaluation do without these packages, so that they run on a machine that has PyTorch and little else.
    """

    def __init__(self, feature: str, package: str) -> None:
        super().__init__(f"{feature} needs the package '{package}', which is not installed: pip install {package}")


class IntegrityError(MetaSpliceAIError):
    """A file is truncated, altered, or not what its checksum or shape says it should be."""


class LeakageError(MetaSpliceAIError):
    """A split shares something between its parts that it must not share."""


class RunError(MetaSpliceAIError):
    """A run could not start, continue or finish."""


def unknown_value(what: str, value: object, choices: Iterable[object], where: str = "") -> InputError:
    """The error for a value outside a closed set: names the value, the nearest choices, and all of them.

    Args:
        what: the thing named, in the user's words ("row id", "device").
        value: what was given.
        choices: what is allowed.
        where: file and line, or option, in which the value stands.
    """
    names = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(value)[:LONGEST_VALUE], names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    place = f" in {where}" if where else ""
    return InputError(f"unknown {what} '{_cut(str(value), LONGEST_VALUE)}'{place}{hint} Choices: {', '.join(names)}")
