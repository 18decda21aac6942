# SPDX-License-Identifier: Apache-2.0
"""The deployment itself: bareon-provision, a process of its own, whose events are told on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bareon.atomic import replacing
from bareon.boot.kexec import REFUSED
from bareon.errors import CommandError
from bareon.run import run
from bareon.sizes import human

PROGRAM = "bareon-provision"
_KEPT = 1 << 20  # bytes of what it says
_LARGEST = 32 << 20  # bytes of a report
_FACTS_TIMEOUT = 300.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its exit code, its first line for people (empty where it went well), its report.

    ``bundle`` is the path of what explains a failure, where there is such a file. ``disks`` are the devices that were
    deployed to, as the report names them; where there are none, ``lack`` says why.
    """

    code: int
    line: str
    report: dict[str, Any] = field(default_factory=dict)
    bundle: Path | None = None
    disks: tuple[str, ...] = ()
    lack: str = ""

    @property
    def refused(self) -> str | None:
        """Why the kernel of the deployed system was not loaded, where it should have been."""
        figures = [step.get("figures") or {} for step in self.report.get("steps", ())]
        return next((str(x.get("warnings")) for x in figures if x.get("kexec") == REFUSED), None)


def facts() -> dict[str, Any]:
    """The facts of this node, as JSON values.

    :raises CommandError: when they cannot be had.
    """
    found = run([PROGRAM, "--dump_node_facts"], timeout=_FACTS_TIMEOUT).read(json.loads)
    if not isinstance(found, dict):
        raise CommandError([PROGRAM, "--dump_node_facts"], 0, "gives no facts")
    return found


def deploy(text: bytes, options: Sequence[str], seconds: float, relay: Callable[[str], None], place: Path) -> Outcome:
    """Deploy what a document describes.

    :param seconds: what it may take.
    :param relay: is given each of its events, a line of JSON.
    :param place: the folder for document, report and bundle; they stay there.
    """
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    document, report, bundle = (place / name for name in ("document.json", "report.json", "bundle.tar.gz"))
    for stale in (report, bundle):
        stale.unlink(missing_ok=True)
    with replacing(document) as file:
        file.write(text)
    files = (f"--input_data_file={document}", f"--report={report}", f"--bundle={bundle}")
    argv = [PROGRAM, *files, "--progress=json", *options]
    try:
        done = run(argv, timeout=seconds, ok=range(256), on_output=relay, at_most=_KEPT)
        code, line = done.code, _line(done.stderr) if done.code else ""
    except CommandError as error:
        code, line = 6 if error.code is None else 1, f"{PROGRAM} {error.reason}"
        if "stopped after" in error.reason:
            line = f"bareon.timeout is over: {line}"
    found, lack = _read(report)
    disks = _disks(found)
    if not disks:
        lack = lack or "its report names no disk"
    return Outcome(code, line, found, bundle if bundle.is_file() else None, disks, lack)


def _line(said: str) -> str:
    """The first line of an error, without the name of the program."""
    lines = [line for line in said.splitlines() if line.startswith(f"{PROGRAM}: ")]
    return (
        lines[0].removeprefix(f"{PROGRAM}: ")
        if lines
        else said.strip().splitlines()[-1]
        if said.strip()
        else "failed"
    )


def _read(report: Path) -> tuple[dict[str, Any], str]:
    """A report, or why there is none."""
    try:
        with report.open("rb") as file:
            text = file.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            return {}, f"its report is larger than {human(_LARGEST)}"
        found = json.loads(text)
    except FileNotFoundError:
        return {}, "it left no report"
    except OSError as error:
        return {}, f"its report cannot be read: {error.strerror}"
    except (ValueError, RecursionError):
        return {}, "its report is no JSON"
    return (found, "") if isinstance(found, dict) else ({}, "its report is no object of JSON")


def _disks(report: dict[str, Any]) -> tuple[str, ...]:
    """The devices of a report's plan; none where it has another form."""
    try:
        return tuple(str(disk["device"]) for disk in report["plan"]["disks"])
    except (KeyError, TypeError):
        return ()
