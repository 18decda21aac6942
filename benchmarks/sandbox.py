# SPDX-License-Identifier: Apache-2.0
"""What it costs to run a program of an image in the sandbox, against chroot; as root, on any machine.

The program is ``true`` of this system, whose root file system stands for that of an image. The two take turns. The
difference of the best times is what is limited: what a program does inside is its own. ``test_sandbox_cost.py`` runs
this in the ramdisk, where a machine is emulated and starting a process takes its time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bareon.run import run
from bareon.tools.mount import enter_private_namespace, mounted
from bareon.tools.sandbox import View, run_inside

ROUNDS = 10
LIMIT = 0.3  # seconds
PLACE = "/run/bareon/benchmark"


def seconds(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.monotonic()
    call()
    return time.monotonic() - started


def main() -> None:
    """Measure, and print the figures."""
    enter_private_namespace()
    Path(PLACE).mkdir(parents=True, exist_ok=True)
    with mounted("/", PLACE, kind="bind"):
        view = View(PLACE, volumes=(PLACE,), fresh=())
        run_inside(view, ["true"])  # the filter of system calls is made once
        rounds = [
            (seconds(lambda: run_inside(view, ["true"])), seconds(lambda: run(["chroot", PLACE, "true"])))
            for _ in range(ROUNDS)
        ]
    sandbox, plain = (min(times) for times in zip(*rounds, strict=True))
    verdict = "within" if sandbox - plain <= LIMIT else "OVER"
    print(
        f"true in the sandbox: {sandbox * 1000:.0f} ms, chroot: {plain * 1000:.0f} ms,"
        f" difference {(sandbox - plain) * 1000:.0f} ms ({verdict} {LIMIT * 1000:.0f} ms)"
    )


if __name__ == "__main__":
    main()
