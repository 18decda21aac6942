# SPDX-License-Identifier: Apache-2.0
"""The report of a run: a JSON file that is whole at every moment."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bareon.atomic import replacing
from bareon.errors import BareonError, CommandError, DisksDiffer, InvalidInput, UsageError
from bareon.executor import Event
from bareon.run import Command

LOG = logging.getLogger(__name__)


class Report:
    """Collects what happened. :meth:`listen` and :meth:`ran` are listeners; :meth:`save` writes the file anew."""

    def __init__(self, path: str | None, version: str) -> None:
        self._path = path
        self._started = time.monotonic()
        self._commands: list[dict[str, Any]] = []
        self._content: dict[str, Any] = {
            "format": 1,
            "versions": {"bareon": version, "python": sys.version.split()[0], "kernel": os.uname().release},
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "outcome": "running",
            "seconds": 0.0,
            "input_sha256": None,
            "node": None,
            "plan": None,
            "warnings": [],
            "commands": self._commands,
            "steps": [],
            "error": None,
        }

    @property
    def content(self) -> Mapping[str, Any]:
        """The report so far, in the form of ``schemas/report.json``."""
        return self._content

    def begin(self) -> None:
        """Write the file a first time.

        :raises UsageError: when that is not possible; later failures are only logged, for a full folder of reports
            must not end a deployment half-way.
        """
        try:
            self._write()
        except OSError as error:
            raise UsageError(f"--report: {self._path} cannot be written: {error.strerror}") from None

    def took(self, text: bytes) -> None:
        """Record the digest of the raw input, before it is parsed."""
        self._content["input_sha256"] = hashlib.sha256(text).hexdigest()

    def probed(self, node: dict[str, Any]) -> None:
        """Record the facts of the node, as JSON, before anything is decided from them."""
        self._content["node"] = node

    def decided(self, plan: dict[str, Any]) -> None:
        """Record the document of the plan that is carried out."""
        self._content["plan"] = plan

    def warn(self, warnings: Iterable[str]) -> None:
        """Record warnings."""
        self._content["warnings"] += warnings

    def listen(self, event: Event) -> None:
        """Record a step, and write the file when one starts or ends."""
        steps = self._content["steps"]
        if event.kind == "started":
            self._commands = []
            steps.append(
                {
                    "action": event.action,
                    "description": event.description,
                    "outcome": "running",
                    "after": round(time.monotonic() - self._started - event.seconds, 3),
                    "seconds": 0.0,
                    "figures": {},
                    "commands": self._commands,
                }
            )
        elif event.kind in ("finished", "failed"):
            steps[-1].update(outcome=event.kind, seconds=round(event.seconds, 3), figures=_figures(event))
        if event.kind != "progressed":
            self.save()

    def ran(self, command: Command) -> None:
        """Record a command: of the present step, or of the preparations before the first."""
        self._commands.append(
            {
                "argv": list(command.argv),
                "exit_code": command.code,
                "seconds": round(command.seconds, 3),
            }
        )

    def end(self, exit_code: int, error: BaseException | None = None) -> None:
        """Say how the run ended, and write the file a last time."""
        self._content["outcome"] = "done" if exit_code == 0 else "failed"
        self._content["exit_code"] = exit_code
        if error is not None:
            self._content["error"] = _error(error)
        self.save()

    def save(self) -> None:
        """Write the file as it is now."""
        try:
            self._write()
        except OSError as error:
            LOG.error("the report %s cannot be written: %s", self._path, error.strerror)

    def _write(self) -> None:
        self._content["seconds"] = round(time.monotonic() - self._started, 3)
        if self._path is not None:
            with replacing(Path(self._path)) as file:
                file.write(json.dumps(self._content, indent=1).encode() + b"\n")


def _figures(event: Event) -> dict[str, Any]:
    """The figures of a step; with bytes also their ``rate`` a second."""
    return event.outcome if event.rate is None else {**event.outcome, "rate": event.rate}


def _error(error: BaseException) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": type(error).__name__, "message": str(error)}
    if isinstance(error, BareonError):
        found["lines"] = error.lines()
    if isinstance(error, InvalidInput):
        found["defects"] = [{"path": defect.path, "message": defect.message} for defect in error.defects]
    if isinstance(error, DisksDiffer):
        found["differences"] = list(error.differences)
    command = error if isinstance(error, CommandError) else error.__cause__
    if isinstance(command, CommandError):
        found["command"] = {
            "argv": list(command.argv),
            "exit_code": command.code,
            "stdout": command.stdout,
            "stderr": command.stderr,
        }
    return found
