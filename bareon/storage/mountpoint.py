# SPDX-License-Identifier: Apache-2.0
"""Mount points that no system can come up with, whatever is in its image.

A volume is mounted by its line in ``/etc/fstab``, after the root file system, which the initramfs mounts, with
``/usr`` at most. What is needed until then cannot lie on it. Filesystem Hierarchy Standard, chapters 3 and 4.
"""

from __future__ import annotations

import re

_LIBRARIES = "lib(?:32|64|x32|o32|n32)?"
_BELOW = "(?:/.*)?"
_APART = "cannot be a volume of its own: "
_MOUNTS = "what mounts volumes at boot lies there"

RULES = tuple(
    (re.compile(folders, re.DOTALL), reason)
    for folders, reason in (
        (f"(/(?:dev|proc|run|sys)){_BELOW}", "belongs to the kernel of the running system"),
        (f"(/var/(?:run|lock)){_BELOW}", "is /run and belongs to the running system"),
        ("(/etc)", f"{_APART}fstab lies there, by which it would be mounted"),
        (f"(/etc/fstab{_BELOW})", f"{_APART}by this file it would be mounted"),
        (
            rf"(/etc/(?:systemd|init\.d|rc\.d|rc[0-6S]\.d|runlevels){_BELOW})",
            f"{_APART}what starts at boot is chosen there, before volumes are mounted",
        ),
        (f"(/s?bin|/{_LIBRARIES})", f"{_APART}{_MOUNTS}"),
        ("(/root)", f"{_APART}who mends a system that mounts nothing needs it"),
        # That /bin, /sbin and /lib are links to them is the rule for many years.
        (f"(/usr/s?bin|/usr/{_LIBRARIES})", f"{_APART}{_MOUNTS}, and an initramfs mounts /usr alone"),
        (f"((?:/usr)?/{_LIBRARIES}/(?:systemd|[a-z0-9_]+-linux-[a-z0-9]+){_BELOW})", f"{_APART}{_MOUNTS}"),
    )
)
"""Patterns of mount points, each with the reason to refuse what its group names."""


def refusal(point: str) -> str | None:
    """The reason why no volume can be mounted at a normal absolute path; ``None`` where one can."""
    for folders, reason in RULES:
        if found := folders.fullmatch(point):
            return f"{found[1]} {reason}"
    return None
