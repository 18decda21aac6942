# SPDX-License-Identifier: Apache-2.0
"""Runs the cases of ``tests_functional/cases``: one generic test for all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests_functional.bench import case, check, evidence
from tests_functional.bench.case import Case
from tests_functional.bench.node import Node
from tests_functional.bench.process import Completed
from tests_functional.bench.session import Session, artifacts_directory

#: Where an Ironic conductor puts the input.
INPUT = "/tmp/provision.json"
#: Seconds for each command that prepares the disks.
PREPARE_LIMIT = 120.0


def parameters(kind: str) -> list[object]:
    """Return the case files of a kind as parameters, marked by what they do."""
    return [
        pytest.param(
            path,
            id=path.stem,
            marks=[pytest.mark.boots] if case.boots(path) else [],
        )
        for path in case.find(kind)
    ]


@pytest.mark.parametrize("path", parameters("positive"))
def test_positive(path: Path, session: Session, request: pytest.FixtureRequest) -> None:
    run(path, session, request)


@pytest.mark.parametrize("path", parameters("negative"))
def test_negative(path: Path, session: Session, request: pytest.FixtureRequest) -> None:
    run(path, session, request)


def run(path: Path, session: Session, request: pytest.FixtureRequest) -> None:
    """Run one case; a failure leaves its evidence in a directory that is named."""
    wanted = case.load(path, session.words())
    node = session.node(wanted.template)
    node.make_disks(wanted.disks)
    try:
        problems = carry_out(wanted, node, session)
        if problems:
            pytest.fail("\n".join([f"{path}: {wanted.description}", *problems]), pytrace=False)
    except BaseException:
        place = evidence.collect(node, artifacts_directory() / path.stem)
        print(f"evidence: {place}\nthe console ends:\n{node.console_tail()}")
        if request.config.getoption("--keep"):
            keep(node)
        raise
    finally:
        node.power_off()
        node.drop_disks()


def carry_out(wanted: Case, node: Node, session: Session) -> list[str]:
    """Take a node through a case and return every mismatch."""
    session.strategy.ramdisk(node)
    node.ssh.put(wanted.input_text, INPUT)
    for command in wanted.before:
        node.ssh.run(command, timeout=PREPARE_LIMIT)
    before = digests(wanted, node)
    done = node.ssh.run(wanted.command, timeout=wanted.timeout, check=False)
    problems = outcome(wanted, done)
    changed = [name for name, digest in digests(wanted, node).items() if digest != before[name]]
    problems += [f"disk {name} was changed" for name in changed]
    if problems:
        return problems
    problems += check.expectation(wanted.expect, node.ssh)
    if wanted.boot and not problems:
        session.strategy.deployed(node)
        problems += check.looks(wanted.booted, node.ssh)
    for number, again in enumerate(wanted.rounds, 1):
        if problems:
            break
        session.strategy.deployed(node, again.without)
        problems += [f"round {number}: {line}" for line in check.looks(again.booted, node.ssh)]
    return problems


def digests(wanted: Case, node: Node) -> dict[str, str]:
    """Return a hash of each disk that must not change, as it is on the host."""
    if wanted.unchanged:
        node.ssh.run("sync")
    return {name: node.disk(name).digest() for name in wanted.unchanged}


def outcome(wanted: Case, done: Completed) -> list[str]:
    """Compare the command's exit code and outputs with the case."""
    problems = []
    if done.exit_code != wanted.exit_code:
        said = f"stdout:\n{done.stdout[-1500:]}\nstderr:\n{done.stderr[-1500:]}"
        problems.append(f"exit {done.exit_code}, not {wanted.exit_code}\n{said}")
    problems += check.patterns(wanted.stdout, done.stdout, "stdout")
    problems += check.patterns(wanted.stderr, done.stderr, "stderr")
    if "Traceback" in done.stderr and wanted.exit_code != 1:
        problems.append(f"a traceback on stderr:\n{done.stderr[-1500:]}")
    if wanted.stdout_json is not None and not problems:
        problems += check.subset(wanted.stdout_json, json.loads(done.stdout), "stdout")
    return problems


def keep(node: Node) -> None:
    """Leave the node up until somebody presses Enter, and say how to get in."""
    # The terminal itself: pytest has put files in the place of the standard streams.
    with Path("/dev/tty").open("r+") as terminal:
        line = node.ssh.enter_line()
        terminal.write(f"\n{node.name} stays up; as root, from another terminal:\n  {line}\n")
        terminal.write("Enter ends it. ")
        terminal.flush()
        terminal.readline()
