# SPDX-License-Identifier: Apache-2.0
"""Runs the functional tests in cells, with ramdisk and tenant built beforehand."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bareon.tests import drawn
from building.process import ProgramError
from ramdisk.machine import MACHINES, USUAL
from ramdisk.profile import PROFILES
from tests_functional.bench import cell, leftovers, playground, products
from tests_functional.bench.imageserver import ImageServers
from tests_functional.bench.session import Session
from tests_functional.bench.template import Template

#: The directory to import this package from.
ROOT = Path(__file__).resolve().parents[1]
#: Bytes that a node, its saved ramdisk and its disks take.
CELL_MEMORY = 6 << 30
#: Beyond this the image server and the disks become the limit.
MOST_CELLS = 8
#: What the machine had before the session, and what became of it.
BEFORE = pytest.StashKey[leftovers.Found]()
LEFT = pytest.StashKey[str]()
#: The names of the tests that are for ``--thorough``.
LEFT_OUT = pytest.StashKey[list[str]]()
UNKNOWN = "left behind: not looked for, since another session runs on this machine"
CLEAN = "left behind: nothing (processes, interfaces, namespaces, loop devices, mounts are as before)"
_STARTED = time.monotonic()
#: Outcome and seconds of each test so far.
_REPORTS: dict[str, tuple[str, float]] = {}
#: What tests counted, by its name; a test counts with ``record_property`` and a number.
_COUNTS: dict[str, list[int]] = {}
#: Lines of tables by their names; a test adds one with ``record_property`` and a text.
_TABLES: dict[str, list[str]] = {}


def say(line: str) -> None:
    """Print a line past pytest's capturing: it tells what takes so long."""
    print(f"[{time.monotonic() - _STARTED:6.1f} s] {line}", file=sys.__stderr__, flush=True)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers."""
    config.addinivalue_line("markers", "long: takes minutes, and had better be started first")
    config.addinivalue_line("markers", "thorough(why): for make test-all; why make test can do without it")
    config.addinivalue_line("markers", "architecture(name): of another machine, for --architecture name")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the bench's own options."""
    drawn.add_option(parser)
    parser.addoption(
        "--keep",
        action="store_true",
        help="after a failure, keep the node up until Enter is pressed, and say how to get in",
    )
    parser.addoption(
        "--node",
        metavar="TEMPLATE",
        help="run no test: bring a node of tests_functional/node_templates/ into the ramdisk, and say how to get in",
    )
    parser.addoption(
        "--every-point",
        action="store_true",
        help="cut the power at every boundary between two steps and at 20 moments, not at some (an hour)",
    )
    parser.addoption(
        "--profile",
        choices=sorted(PROFILES),
        default="small",
        help="the ramdisk of all nodes; full comes with firmware, and takes minutes to build (default: %(default)s)",
    )
    parser.addoption(
        "--architecture",
        action="append",
        default=[],
        choices=sorted({*MACHINES} - {USUAL}),
        help="build the ramdisk for these machines too, and run their tests (emulated; a quarter of an hour)",
    )
    parser.addoption(
        "--points",
        type=int,
        metavar="N",
        help="cut the power at N boundaries and N moments, of every scenario (else of one alone)",
    )
    parser.addoption(
        "--ironic",
        metavar="REQUIREMENTS",
        help="the conductor's Ironic for pip, such as ironic==36.0.0 (default: that of ironic-requirements.txt)",
    )
    parser.addoption(
        "--cells",
        type=int,
        default=_cells(),
        help="how many cases run at the same time, each in a cell (default: %(default)s)",
    )


def _cells() -> int:
    """Return how many cells this machine's processors and memory allow."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    memory = int(fields["MemAvailable"].split()[0]) * 1024
    return max(1, min(os.cpu_count() or 1, memory // CELL_MEMORY, MOST_CELLS))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Build what is missing, then have the tests run in cells.

    Products are built outside, since nothing can be fetched from inside a cell.
    """
    if cell.inside() and config.option.node:
        return playground.run(config.option.node, say)
    if cell.inside() or config.option.collectonly or config.option.help:
        return None
    config.stash[BEFORE] = leftovers.read()
    try:
        if config.option.node:
            Template.load(config.option.node)
        if products.VARIABLE not in os.environ:  # else another session started this one
            option = config.option
            products.build(say, option.ironic, option.profile, option.architecture).hand_over()
    except (ProgramError, ValueError) as error:
        raise pytest.UsageError(str(error)) from error
    asks = bool(config.option.keep or config.option.usepdb or config.option.node)
    if config.option.cells == 1 or asks:
        command = [sys.executable, "-m", "pytest", *config.invocation_params.args]
        code = cell.run_inside(command, root=ROOT, cwd=config.invocation_params.dir, terminal=asks)
        left = _left_behind(config)
        print(left, file=sys.__stderr__)
        return code or int(left not in (CLEAN, UNKNOWN))
    cell.prepare_environment(ROOT)
    python = f"{sys.executable} -m tests_functional.bench.celled_python"
    config.option.tx = [f"{config.option.cells}*popen//python={python}"]
    # One case at a time goes to whoever is free: some take ten times as long as others.
    config.option.dist = "load"
    config.option.maxschedchunk = 1
    return None


def _left_behind(config: pytest.Config) -> str:
    """Say what the session left behind."""
    if leftovers.others():
        return UNKNOWN
    lines = leftovers.difference(config.stash[BEFORE])
    return "left behind: " + "; ".join(lines) if lines else CLEAN


def pytest_testnodedown(node: Any) -> None:
    """Take over from a cell the names of the tests that it left out."""
    if names := getattr(node, "workeroutput", {}).get("left_out"):
        node.config.stash[LEFT_OUT] = names


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the session when something of it stays, once all the cells have ended."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = config.stash.get(LEFT_OUT, [])
    if BEFORE in config.stash:
        config.stash[LEFT] = _left_behind(config)
        if config.stash[LEFT] not in (CLEAN, UNKNOWN):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is for ``--thorough``, and for machines that were not asked for.

    Let what takes longest come first: no cell shall be left with it.
    """
    others = [
        item
        for item in items
        if (mark := item.get_closest_marker("architecture")) and mark.args[0] not in config.option.architecture
    ]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]
    if not (config.option.thorough or config.option.keyword or any("::" in x for x in config.args)):
        left = [item for item in items if item.get_closest_marker("thorough")]
        config.stash[LEFT_OUT] = [item.nodeid.partition("::")[2] for item in left]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def image_servers() -> Iterator[ImageServers]:
    """Return the servers of block images."""
    with ImageServers(products.Products.received().images, cell.SCRATCH, say) as running:
        yield running


@pytest.fixture(scope="session")
def session(image_servers: ImageServers, request: pytest.FixtureRequest) -> Iterator[Session]:
    """Return the session that all cases share."""
    keep = request.config.getoption("--keep")
    with Session(products.Products.received(), image_servers, say, keep=keep) as running:
        yield running


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the seconds of a test's phases."""
    outcome, seconds = _REPORTS.get(report.nodeid, ("passed", 0.0))
    if report.outcome != "passed":
        outcome = report.outcome
    _REPORTS[report.nodeid] = (outcome, seconds + report.duration)
    if report.when == "call":
        for name, value in report.user_properties:
            if isinstance(value, int):
                _COUNTS.setdefault(str(name), []).append(value)
            else:
                _TABLES.setdefault(str(name), []).append(str(value))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print a table of the cases and how long each took, the slowest, and what tests counted."""
    if LEFT in config.stash:
        terminalreporter.write_line(config.stash[LEFT])
    if not _REPORTS:
        return
    terminalreporter.section("functional cases")
    for name, (outcome, seconds) in sorted(_REPORTS.items()):
        terminalreporter.write_line(f"{seconds:7.1f} s  {outcome:7}  {name.partition('::')[2]}")
    if left_out := config.stash.get(LEFT_OUT, []):
        terminalreporter.section("left to make test-all")
        for name in sorted(left_out):
            terminalreporter.write_line(name)
    terminalreporter.section("the slowest ten")
    for name, (_, seconds) in sorted(_REPORTS.items(), key=lambda entry: -entry[1][1])[:10]:
        terminalreporter.write_line(f"{seconds:7.1f} s  {name.partition('::')[2]}")
    for name, amounts in sorted(_COUNTS.items()):
        terminalreporter.write_line(f"{name}: {sum(amounts)} in {len(amounts)} tests")
    for name, lines in sorted(_TABLES.items()):
        terminalreporter.section(name)
        for line in sorted(lines):
            terminalreporter.write_line(line)
