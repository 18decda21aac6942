# SPDX-License-Identifier: Apache-2.0
"""The comparison alone, as a whole run: its exit code, and what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bareon.tests import cases

# The machine that the test runs on is none to compare with.
RUN = """
import contextlib, sys
from bareon.cmd import lock, provision
from bareon.tests import cases
from bareon.tools import mount

lock.node_lock = contextlib.nullcontext
mount.enter_private_namespace = provision._must_be_root = lambda: None
provision._Run._node = lambda self: cases.node("deployed-running")
sys.exit(provision.verify(sys.argv[1:]))
"""


def verify(case: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run it with the input of a case: how it ended, and its report."""
    text = json.dumps(cases.load(cases.HERE / "cases" / f"{case}.yaml")["input"])
    places = {"report": "report.json", "bundle": "bundle", "log-file": "log"}
    argv = [word for option, name in places.items() for word in (f"--{option}", str(folder / name))]
    command = [sys.executable, "-c", RUN, *argv, "--input_data", text]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, json.loads((folder / "report.json").read_text())


def test_no_difference(tmp_path: Path) -> None:
    done, report = verify("plan/verify-alone", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (report["outcome"], report["plan"]["differences"], report["steps"]) == ("done", [], [])


def test_differences_are_an_answer(tmp_path: Path) -> None:
    """They are in the report, and no failure that somebody has to look into by a bundle."""
    done, report = verify("error/verify-alone-differs", tmp_path)
    lines = report["error"]["differences"]
    assert (done.returncode, report["exit_code"], len(lines)) == (5, 5, 4)
    assert done.stderr.splitlines() == [
        *(f"bareon-verify: {x}" for x in lines),
        f"bareon-verify: the log is {tmp_path}/log",
    ]
    assert not (tmp_path / "bundle").exists()
