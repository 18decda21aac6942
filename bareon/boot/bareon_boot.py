# SPDX-License-Identifier: Apache-2.0
"""``bareon-boot``: a shell script, the same in the ramdisk, on the multiboot partition and in the deployed images."""

from __future__ import annotations

import shlex
from importlib import resources

PLACE = "/usr/local/sbin/bareon-boot"


def script(uuid: str | None = None) -> str:
    """The script, for the multiboot partition of that UUID; without one it looks for the partition's label."""
    text = resources.files("bareon.boot").joinpath("bareon-boot.sh").read_text()
    return text.replace("'@UUID@'", shlex.quote(uuid)) if uuid else text
