# SPDX-License-Identifier: Apache-2.0
"""The deploy ramdisk: a kernel and an initramfs with bareon in it.

It has two layers, so that a change of bareon costs seconds: a base of Debian packages and
third-party libraries, and a small archive with this checkout's wheel, which the kernel unpacks over
the base.
"""

from ramdisk.build import Ramdisk, build

__all__ = ["Ramdisk", "build"]
