# SPDX-License-Identifier: Apache-2.0
"""Runs the cases of ``tests_functional/cases``: one generic test for all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from building.process import Completed
from tests_functional.bench import case, check
from tests_functional.bench.case import Case
from tests_functional.bench.node import Node
from tests_functional.bench.session import PREPARE_LIMIT, Record, Session

#: Where an Ironic conductor puts the input.
INPUT = "/tmp/provision.json"
REPORT = "/tmp/bareon-report.json"


def parameters(kind: str) -> list[object]:
    """Return the case files of a kind as parameters, marked by what they do."""
    return [pytest.param(path, id=path.stem, marks=marks(path)) for path in case.find(kind)]


def marks(path: Path) -> list[pytest.MarkDecorator]:
    """Return the markers of a case file."""
    found = [pytest.mark.long] if case.boots(path) else []
    why = case.thorough(path)
    return [*found, *([pytest.mark.thorough(why)] if why else [])]


@pytest.mark.parametrize("path", parameters("positive"))
def test_positive(path: Path, session: Session, record_property: Record) -> None:
    run(path, session, record_property)


@pytest.mark.parametrize("path", parameters("negative"))
def test_negative(path: Path, session: Session, record_property: Record) -> None:
    run(path, session, record_property)


def run(path: Path, session: Session, record_property: Record) -> None:
    """Run one case; a failure leaves its evidence in a directory that is named."""
    try:
        wanted = case.load(path, session.words())
    except case.CaseError as error:
        pytest.fail(str(error), pytrace=False)
    with session.node_in_ramdisk(wanted.template, wanted.disks, wanted.name) as node:
        if problems := carry_out(wanted, node, session, record_property):
            pytest.fail("\n".join([f"{path}: {wanted.description}", *problems]), pytrace=False)


def carry_out(wanted: Case, node: Node, session: Session, record_property: Record) -> list[str]:
    """Take a node through a case; return every mismatch. What took which time is recorded."""
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
    if wanted.boot:
        for line in boot_loader_times(wanted, node):
            record_property("seconds in the boot-loader action", line)
    problems += check.expectation(wanted.expect, node.ssh)
    starts = []
    if wanted.boot and not problems:
        starts.append(session.strategy.deployed(node))
        problems += check.looks(wanted.booted, node.ssh)
    for number, again in enumerate(wanted.rounds, 1):
        if problems:
            break
        starts.append(session.strategy.deployed(node, again.without))
        problems += [f"round {number}: {line}" for line in check.looks(again.booted, node.ssh)]
    if starts:
        line = f"{wanted.name}: {', '.join(f'{seconds:.1f}' for seconds in starts)}"
        record_property("seconds from power to SSH in what was deployed", line)
    return problems


def boot_loader_times(wanted: Case, node: Node) -> list[str]:
    """Return how long the steps of the boot loader took, by the report on the node, if it has any."""
    report = json.loads(node.ssh.run(f"cat {REPORT}").stdout)
    seconds = [step["seconds"] for step in report["steps"] if step["action"] == "do_bootloader"]
    images = len(json.loads(wanted.input_text).get("images", [None]))  # other dialects have one system
    return [f"{wanted.name}: {sum(seconds):.1f} s, images: {images}"] if seconds else []


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
