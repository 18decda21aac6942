# SPDX-License-Identifier: Apache-2.0
"""os-prober(8): which partitions and logical volumes hold an operating system."""

from __future__ import annotations

from bareon.run import run

PROGRAMS = ("os-prober",)
_TIMEOUT = 600.0  # seconds; it mounts whatever it finds, slowly under emulation


def systems() -> dict[str, str]:
    """The long name of the system by its device, such as ``Debian GNU/Linux 12 (bookworm)``."""
    return parse(run(["os-prober"], timeout=_TIMEOUT).stdout)


def parse(output: str) -> dict[str, str]:
    """The lines ``DEVICE:LONG NAME:SHORT NAME:KIND`` of its output."""
    fields = (line.split(":") for line in output.splitlines())
    return {x[0]: x[1] for x in fields if len(x) >= 4}
