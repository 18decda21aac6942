# SPDX-License-Identifier: Apache-2.0
"""initramfs-tools of Debian: update-initramfs(8)."""

from __future__ import annotations

from bareon.system.makers.maker import Maker

MAKER = Maker("update-initramfs")
