# SPDX-License-Identifier: Apache-2.0
"""Runs the functional tests in a cell, with ramdisk and tenant built beforehand."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests_functional.bench import cell, products
from tests_functional.bench.process import ProgramError
from tests_functional.bench.session import Session

#: The directory to import this package from.
ROOT = Path(__file__).resolve().parents[1]
_STARTED = time.monotonic()
#: Outcome and seconds of each test so far.
_REPORTS: dict[str, tuple[str, float]] = {}


def say(line: str) -> None:
    """Print a line past pytest's capturing: it tells what takes so long."""
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {line}", file=sys.__stderr__, flush=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--keep",
        action="store_true",
        help="after a failure, keep the node up until Enter is pressed, and say how to get in",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Build what is missing, then run the same command line in a cell.

    Products are built outside, since nothing can be fetched from inside a cell.
    """
    if cell.inside() or config.option.collectonly or config.option.help:
        return None
    try:
        products.build(say).hand_over()
    except ProgramError as error:
        raise pytest.UsageError(str(error)) from error
    command = [sys.executable, "-m", "pytest", *config.invocation_params.args]
    return cell.run_inside(command, root=ROOT, cwd=config.invocation_params.dir)


@pytest.fixture(scope="session")
def session() -> Iterator[Session]:
    """Return the session that all cases share."""
    with Session(products.Products.received(), say) as running:
        yield running


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the seconds of a test's phases."""
    outcome, seconds = _REPORTS.get(report.nodeid, ("passed", 0.0))
    if report.outcome != "passed":
        outcome = report.outcome
    _REPORTS[report.nodeid] = (outcome, seconds + report.duration)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a table of the cases and how long each took."""
    if not cell.inside() or not _REPORTS:
        return
    terminalreporter.section("functional cases")
    for name, (outcome, seconds) in _REPORTS.items():
        terminalreporter.write_line(f"{seconds:7.1f} s  {outcome:7}  {name.partition('::')[2]}")
