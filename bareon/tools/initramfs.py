# SPDX-License-Identifier: Apache-2.0
"""Initial ramdisks of a deployed system, made anew by its own program.

update-initramfs(8), dracut(8), mkinitcpio(8), mkinitfs(1).
"""

from __future__ import annotations

from collections.abc import Mapping

from bareon.tools.sandbox import Limits, View, run_inside

_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "update-initramfs": ("-u", "-k", "{version}"),
    # Not for the machine as the ramdisk sees it; and with no path the file would be another one on Debian.
    "dracut": ("--force", "--no-hostonly", "--no-hostonly-cmdline", "{path}", "{version}"),
    "mkinitcpio": ("-k", "{version}", "-g", "{path}", "-S", "autodetect", "-n"),  # nor here
    "mkinitfs": ("-o", "{path}", "{version}"),
}
"""What each is told."""

_LIMITS = Limits(seconds=1800.0)  # slow under emulation


def remake(view: View, program: str, path: str, version: str) -> None:
    """Make the initramfs of a kernel of a deployed system anew.

    :param program: one of those above, by name.
    :param path: of the initramfs, in that system.
    :param version: that of the kernel.
    :raises CommandError: when it fails, for instance since /boot is full.
    """
    argv = [program, *(word.format(path=path, version=version) for word in _ARGUMENTS[program])]
    run_inside(view, argv, limits=_LIMITS)
