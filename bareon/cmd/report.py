# SPDX-License-Identifier: Apache-2.0
"""bareon-report: a report as a page for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bareon.cmd.exit import guarded
from bareon.errors import Defect, InvalidInput, UsageError

PROGRAM = "bareon-report"
USAGE = "Makes one HTML page of a report: the disks before and after, the steps, the commands."


def main(argv: Sequence[str] | None = None) -> int:
    """Make the page of one report."""
    return guarded(PROGRAM, lambda: _body(list(sys.argv[1:] if argv is None else argv)))


def _body(argv: list[str]) -> None:
    import argparse

    from bareon.cmd import source
    from bareon.report import schema
    from bareon.report.page import page
    from bareon.version import version

    parser = argparse.ArgumentParser(PROGRAM, description=USAGE)
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version()}")
    parser.add_argument("--html", metavar="OUT", required=True, help="where the page goes; - is standard output")
    parser.add_argument("file", metavar="FILE", help="the report; - is standard input")
    found = parser.parse_args(argv)
    report = _load(source.read(found.file))
    schema.check(report, "report")
    text = page(report)
    if found.html == "-":
        sys.stdout.write(text)
        return
    try:
        Path(found.html).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--html: {found.html} cannot be written: {error.strerror}") from None


def _load(text: bytes) -> Any:
    def constant(name: str) -> None:
        raise ValueError(f"{name} is no JSON value")

    try:
        return json.loads(text, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput([Defect("$", f"not JSON: {error}")]) from None
