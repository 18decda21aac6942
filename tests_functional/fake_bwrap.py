#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in for bwrap and gives no sandbox: chroot, with what a program below another root commonly gets.

test_hostile_image.py puts it in the place of bwrap, to see that its probes reach where nothing stops them.
"""

from __future__ import annotations

import os
import subprocess
import sys

MOUNTS = (
    ("-t", "proc", "proc", "/proc"),
    ("-t", "sysfs", "sysfs", "/sys"),
    ("--bind", "/dev", "/dev"),
    ("-t", "tmpfs", "tmpfs", "/run"),
)


def main(words: list[str]) -> None:
    """Run the program in the way that its caller wanted a sandbox for."""
    root = words[words.index("--bind") + 1]
    environment = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "--setenv"}
    for *kind, place in MOUNTS:
        subprocess.run(["/bin/mount", *kind, f"{root}{place}"], check=True)
    os.chroot(root)
    os.chdir("/")
    program = words[words.index("--") + 1 :]
    os.execvpe(program[0], program, environment)


if __name__ == "__main__":
    main(sys.argv[1:])
