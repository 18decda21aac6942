# SPDX-License-Identifier: Apache-2.0
"""All errors for people, by who must act.

Only :mod:`bareon.cmd.exit` turns these into exit codes; see the table in ``doc/source/reference/exit-codes.rst``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: ``PROGRAM: error: REASON``, as GNU's programs say it; what stands behind is advice.
_ERROR = re.compile(r"(?:^|: )(?:fatal )?error: ", re.IGNORECASE)


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong with an input, and where.

    ``path`` is a JSON path such as ``$.partitions[0].size``.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class BareonError(Exception):
    """Base of all errors that are not bugs in bareon."""

    def lines(self) -> list[str]:
        """The error as lines for people, one per finding."""
        return [str(self)]


class UsageError(BareonError):
    """The command line or the configuration is wrong."""


class InvalidInput(BareonError):
    """The author of the input must act. Carries every defect, not just the first."""

    def __init__(self, defects: Iterable[Defect]) -> None:
        self.defects = tuple(defects)
        super().__init__("; ".join(map(str, self.defects)))

    def lines(self) -> list[str]:
        return [str(defect) for defect in self.defects]


class UnsuitableNode(BareonError):
    """This node cannot satisfy the input; nothing was written."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons
        super().__init__("; ".join(reasons))

    def lines(self) -> list[str]:
        return list(self.reasons)


class DisksDiffer(BareonError):
    """The disks differ from their description in the input; nothing was written.

    ``wanted`` is the layout that was compared, a :class:`bareon.model.layout.Layout`.
    """

    def __init__(self, differences: Iterable[str], wanted: object = None) -> None:
        self.differences = tuple(differences)
        self.wanted = wanted
        super().__init__("; ".join(self.differences))

    def lines(self) -> list[str]:
        return list(self.differences)


class Locked(BareonError):
    """Another run works on this node."""


class ActionFailed(BareonError):
    """A step failed while it changed the node."""


class ImageFailed(BareonError):
    """An image could not be fetched, or is not what it should be."""


def _telling(stderr: str) -> str:
    """The line of a program's errors that says why it failed: the last that calls itself an error, else the last."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = (line for line in reversed(lines) if _ERROR.search(line))
    return next(errors, lines[-1] if lines else "")


class CommandError(ActionFailed):
    """A program was missing, failed, or took too long.

    ``code`` is its exit status, ``None`` when it never started or was stopped after its
    time limit. ``argv`` is already masked: secrets in it read ``***``.
    """

    def __init__(
        self, argv: Sequence[str], code: int | None, reason: str, stdout: str = "", stderr: str = ""
    ) -> None:
        self.argv = tuple(argv)
        self.code = code
        self.reason = reason
        self.stdout = stdout
        self.stderr = stderr
        super().__init__(f"{self.argv[0]} {reason}")

    @property
    def command(self) -> str:
        """The command as it can be pasted into a shell."""
        return shlex.join(self.argv)

    def __str__(self) -> str:
        telling = _telling(self.stderr)
        return f"{self.argv[0]} {self.reason}" + (f": {telling}" if telling else "") + f" ({self.command})"
