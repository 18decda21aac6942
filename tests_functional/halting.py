# SPDX-License-Identifier: Apache-2.0
"""Runs on a node, in the ramdisk: bareon-provision that waits at every boundary between its steps.

Usage: halting.py DIRECTORY BOUNDARIES ARGUMENT... Boundary N lies behind N steps; 0 is before the first write.
``DIRECTORY/actions`` gets the action of each step. At each of the BOUNDARIES (``1,5,7`` or ``all``) the run makes
``DIRECTORY/at-N`` and waits for ``DIRECTORY/go-N``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bareon import executor
from bareon.cmd import provision
from bareon.executor import Event, Listener
from bareon.plan.plan import Plan

DIRECTORY = Path(sys.argv[1])
BOUNDARIES = sys.argv[2].split(",")
execute = executor.execute


def halt(event: Event) -> None:
    """Wait when the event is at a boundary."""
    if event.kind == "finished":
        wait(event.number)
    elif event.kind == "started" and event.number == 1:
        wait(0)


def wait(boundary: int) -> None:
    """Wait for permission to go on, if this boundary is one of those to wait at."""
    if "all" in BOUNDARIES or str(boundary) in BOUNDARIES:
        (DIRECTORY / f"at-{boundary}").touch()
        while not (DIRECTORY / f"go-{boundary}").exists():
            time.sleep(0.05)


def halting(plan: Plan, listeners: Sequence[Listener]) -> None:
    """Execute a plan with one more listener, the last to be told."""
    (DIRECTORY / "actions").write_text("\n".join(step.action for step in plan.steps))
    execute(plan, [*listeners, halt])


if __name__ == "__main__":
    executor.execute = halting
    sys.exit(provision.main(sys.argv[3:]))
