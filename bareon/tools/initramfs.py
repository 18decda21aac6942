# SPDX-License-Identifier: Apache-2.0
"""Initial ramdisks of a deployed system, made anew by its own program: update-initramfs(8), dracut(8)."""

from __future__ import annotations

from bareon.tools.sandbox import Limits, View, run_inside

MAKERS = ("update-initramfs", "dracut")
"""The programs, the one to take where there are several first."""

_LIMITS = Limits(seconds=1800.0)  # slow under emulation


def remake(view: View, program: str, path: str, version: str) -> None:
    """Make the initramfs of a kernel of a deployed system anew.

    :param program: one of :data:`MAKERS`.
    :param path: of the initramfs, in that system.
    :param version: that of the kernel.
    :raises CommandError: when it fails, for instance since /boot is full.
    """
    if program == "dracut":
        # Not for the machine as the ramdisk sees it; and with no path the file would be another one on Debian.
        argv = [program, "--force", "--no-hostonly", "--no-hostonly-cmdline", path, version]
    else:
        argv = [program, "-u", "-k", version]
    run_inside(view, argv, limits=_LIMITS)
