# SPDX-License-Identifier: Apache-2.0
"""The report of a run in which nothing is done: the steps of a real plan, of which each only says what it would."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bareon import executor
from bareon.errors import BareonError, CommandError
from bareon.executor import Listener
from bareon.facts import to_json
from bareon.model.node import NodeFacts
from bareon.plan.document import document
from bareon.plan.plan import Plan
from bareon.report.report import Report
from bareon.run import Command, observed
from bareon.step import Outcome, Progress, Step
from bareon.tests import cases, simulation

GIB = 1 << 30


@dataclass(frozen=True)
class Recorded(Step):
    """Stands for ``step``; ``after`` seconds it ends, and with ``error`` if there is one."""

    step: Step
    seconds: float
    report: Report
    error: BareonError | None = None

    @property
    def description(self) -> str:
        return self.step.description

    @property
    def destroys(self) -> tuple[str, ...]:
        return self.step.destroys

    def run(self, progress: Progress) -> Outcome:
        copying = self.step.action == "do_copyimage" and "Copy" in self.description
        for tenth in range(11 if copying else 0):
            progress(GIB * tenth // 10, GIB)
        time.sleep(self.seconds)
        self.report.ran(Command(("true", self.description), 0, "", "", self.seconds))
        if self.error:
            raise self.error
        return {"bytes": GIB, "files": 41207, "attempts": 2} if copying else {}


def recorded(
    plan: Plan, node: NodeFacts, error: BareonError | None = None, listeners: Sequence[Listener] = ()
) -> dict[str, Any]:
    """The content of the report of ``plan``, whose last step ends with ``error`` if there is one."""
    report = Report(None, "1.0")
    report.took(b"{}")
    report.warn(plan.warnings)
    report.probed(to_json(node))
    report.decided(document(plan))
    seconds = [0.02 if "Copy" not in step.description else 0.3 for step in plan.steps]
    steps = [Recorded(step.action, step, length, report) for step, length in zip(plan.steps, seconds, strict=True)]
    if error:
        steps[-1] = replace(steps[-1], error=error)
    with observed(report.ran):
        report.ran(Command(("lsblk", "--json", "--output", "NAME,SIZE,TYPE"), 0, "", "", 0.04))
        try:
            executor.execute(replace(plan, steps=tuple(steps)), [report.listen, *listeners])
        except BareonError as failure:
            report.end(6, failure)
        else:
            report.end(0)
    found: dict[str, Any] = json.loads(json.dumps(report.content))
    return found


def case(name: str) -> tuple[Plan, NodeFacts]:
    """Plan and node of a case file in ``cases/plan``."""
    found = cases.load(cases.HERE / "cases/plan" / f"{name}.yaml")
    return cases.plan_of(found), cases.node(found["node"])


def redeployed(name: str) -> tuple[Plan, NodeFacts]:
    """The same after a first deployment, so that there is something to see before the second."""
    plan, node = case(name)
    return plan, simulation.after(plan.layout, node)


FAILURE = CommandError(
    ["mkfs.ext4", "-q", "/dev/vda3"], 1, "failed with exit code 1", "", "No space left on device\n"
)


def examples() -> dict[str, dict[str, Any]]:
    """Reports of every kind, by name."""
    kept, node = case("verify-stacked")
    return {
        "done": recorded(*redeployed("lvm-on-raid")),
        "kept": recorded(kept, node),
        "failed": recorded(*case("two-disks"), FAILURE),
    }


def write(folder: Path) -> list[Path]:
    """The pages of all examples as files in ``folder``."""
    from bareon.report.page import page

    paths = []
    for name, report in examples().items():
        paths.append(folder / f"{name}.html")
        paths[-1].write_text(page(report))
    return paths
