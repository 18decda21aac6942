# SPDX-License-Identifier: Apache-2.0
"""The comparison alone, as a whole run: its exit code, and what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bareon import executor
from bareon.actions.copyimage import BindSystem
from bareon.actions.verify import CompareFiles
from bareon.errors import ActionFailed, DisksDiffer
from bareon.model.layout import Layout
from bareon.plan.plan import Plan
from bareon.step import Outcome, Progress, Step
from bareon.system.bindings import fstab
from bareon.tests import cases
from bareon.tests.simulation import after

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
    # Without images, whose files would be looked for on this machine.
    text = json.dumps({**cases.load(cases.HERE / "cases" / f"{case}.yaml")["input"], "images": []})
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


@dataclass(frozen=True)
class Differing(Step):
    writes = False

    @property
    def description(self) -> str:
        return "Differ"

    def run(self, progress: Progress) -> Outcome:
        raise DisksDiffer(["one"])


class Writing(Differing):
    writes = True

    def run(self, progress: Progress) -> Outcome:
        return {}


def test_a_difference_that_a_step_finds_leaves_the_disks_untouched_where_none_has_written() -> None:
    layout = Layout("verify", "bios", ())
    with pytest.raises(DisksDiffer):
        executor.execute(Plan(layout, (Differing("x"), Writing("x"))), [])
    with pytest.raises(ActionFailed):
        executor.execute(Plan(layout, (Writing("x"), Differing("x"))), [])


def _binds(plan: Plan) -> list[BindSystem]:
    return [step for step in plan.steps if isinstance(step, BindSystem)]


def test_nothing_differs_on_a_node_that_was_just_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every case that clears its disks and brings a system, whatever it lies on."""
    compared = 0
    for path in cases.cases("plan"):
        case = cases.load(path)
        plan, before = cases.plan_of(case), cases.node(case["node"])
        if plan.layout.policy != "clean" or not _binds(plan):
            continue
        deployed = after(plan.layout, before)
        with monkeypatch.context() as patch:
            patch.setattr(cases, "node", lambda _, found=deployed: found)
            (step,) = cases.plan_of({**case, "actions": ["do_verify"]}).steps
        assert isinstance(step, CompareFiles)
        for image in (bind.home.image for bind in _binds(plan)):
            volumes = tuple(replace(step, layout=plan.layout).volumes(image))
            home = replace(next(x.home for x in _binds(plan) if x.home.image == image), volumes=volumes)
            text = fstab.Fstab().bound(fstab.PLACE, None, home).text
            assert list(fstab.differences(text, step.volumes(image))) == [], path.stem
            compared += 1
    assert compared > 20
