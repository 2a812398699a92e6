"""Errors a user can act on.

Every message is one line that names the bad value, where it stands and what to do. The command line prints the
message without a traceback and ends with exit code 2. Anything else that is raised is a defect of this package.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MetaSpliceAIError(Exception):
    """Base class of all errors meant for the user."""

    exit_code = 2


class InputError(MetaSpliceAIError):
    """A file, a table, an option or a value given by the user cannot be used."""


class MissingResourceError(MetaSpliceAIError):
    """Weights, data or a download that were asked for cannot be had; the message names the ways out."""


class MissingExtraError(MetaSpliceAIError):
    """An optional dependency is not installed; the message names the extra that brings it."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs the optional extra '{extra}': pip install 'meta-spliceai[{extra}]'")


class MissingPackageError(MetaSpliceAIError):
    """A package of the usual installation is not on this machine, and what was asked for cannot be done without it.

    Training and judging do without these packages, so that they run on a machine that has PyTorch and little else.
    """

    def __init__(self, feature: str, package: str) -> None:
        super().__init__(f"{feature} needs the package '{package}', which is not installed: pip install {package}")


class IntegrityError(MetaSpliceAIError):
    """A file is truncated, altered, or not what its checksum or shape says it should be."""


class LeakageError(MetaSpliceAIError):
    """A split shares something between its parts that it must not share."""


class RunError(MetaSpliceAIError):
    """A run could not start, go on or finish."""


def unknown_value(what: str, value: object, choices: Iterable[object], where: str = "") -> InputError:
    """The error for a value outside a closed set: names the value, the nearest choices, and all of them.

    Args:
        what: the thing named, in the user's words ("row id", "device").
        value: what was given.
        choices: what is allowed.
        where: file and line, or option, in which the value stands.
    """
    names = [str(choice) for choice in choices]
    near = difflib.get_close_matches(str(value), names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    place = f" in {where}" if where else ""
    return InputError(f"unknown {what} '{value}'{place}{hint} Choices: {', '.join(names)}")
