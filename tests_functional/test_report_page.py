# SPDX-License-Identifier: Apache-2.0
"""The page of a report in a real browser. The pictures are among the artifacts, to be looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bareon.cmd.report import main as bareon_report
from bareon.tests import recording
from tests_functional import test_cases
from tests_functional.bench import browser, case
from tests_functional.bench.session import PREPARE_LIMIT, Session, artifacts_directory

#: The case whose report is drawn: two disks, one of which had something on it.
CASE = "two_disks"
#: Seconds for the report to arrive.
LIMIT = 30.0


def drawn(name: str, report: str) -> list[Path]:
    """Make page and pictures of a report, light and dark; return the pictures."""
    folder = artifacts_directory() / "report-page"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(report)
    page = folder / f"{name}.html"
    assert bareon_report([str(folder / f"{name}.json"), "--html", str(page)]) == 0
    pictures = [folder / f"{name}-light.png", folder / f"{name}-dark.png"]
    for picture in pictures:
        dark = picture is pictures[1]
        assert browser.photograph(page, picture, dark=dark) == (browser.WIDTH, browser.HEIGHT)
    print(f"pictures: {', '.join(map(str, pictures))}")
    return pictures


@pytest.mark.parametrize("name", ["done", "kept", "failed"])
def test_recorded_report(name: str) -> None:
    light, dark = drawn(name, json.dumps(recording.examples()[name]))
    # Flat colours compress to nothing: this many bytes are text and pictures, not an empty page.
    assert min(light.stat().st_size, dark.stat().st_size) > 50_000
    assert light.read_bytes() != dark.read_bytes()


def test_report_of_a_deployment(session: Session) -> None:
    path = next(path for path in case.find("positive") if path.stem == CASE)
    wanted = case.load(path, session.words())
    with session.node_in_ramdisk(wanted.template, wanted.disks, "report-page") as node:
        node.ssh.put(wanted.input_text, test_cases.INPUT)
        for command in wanted.before:
            node.ssh.run(command, timeout=PREPARE_LIMIT)
        node.ssh.run(wanted.command, timeout=wanted.timeout)
        report = node.ssh.run("cat /tmp/bareon-report.json", timeout=LIMIT).stdout
    assert json.loads(report)["outcome"] == "done"
    drawn("deployment", report)
