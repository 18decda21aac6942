# SPDX-License-Identifier: Apache-2.0
"""os-prober(8): which partitions and logical volumes hold an operating system."""

from __future__ import annotations

from bareon.run import run

PROGRAMS = ("os-prober",)
# A call of logger(1) for each test of each partition takes most of its time otherwise.
_QUIET = {"OS_PROBER_DISABLE_DEBUG": "1"}


def systems() -> dict[str, str]:
    """The long name of the system by its device, such as ``Debian GNU/Linux 12 (bookworm)``.

    Some 15 seconds under emulation; for ever where it reads a FIFO in a tree, so that it has no more time than others
    have.

    :raises CommandError: when it fails, or takes too long.
    """
    return run(["os-prober"], env=_QUIET).read(parse)


def parse(output: str) -> dict[str, str]:
    """The lines ``DEVICE:LONG NAME:SHORT NAME:KIND`` of its output."""
    fields = (line.split(":") for line in output.split("\n"))
    return {x[0]: x[1] for x in fields if len(x) >= 4}
