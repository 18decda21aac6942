# SPDX-License-Identifier: Apache-2.0
"""Starting another kernel from the one that runs: kexec(8).

By kexec_file_load(2) alone, where the running kernel reads the new one itself: with Secure Boot it then looks at its
signature.
"""

from __future__ import annotations

from pathlib import Path

from bareon.run import run

PROGRAMS = ("kexec",)
#: Has 1 where a kernel is loaded. A running kernel without kexec has no such file.
_LOADED = Path("/sys/kernel/kexec_loaded")
_MEMORY = Path("/proc/meminfo")


def load(kernel: str, initrd: str | None, arguments: str) -> None:
    """Load a kernel, its initial ramdisk and its command line into memory, in the place of one that is loaded."""
    files = [f"--initrd={initrd}"] if initrd else []
    line = f"--command-line={arguments}"
    run(["kexec", "--load", "--kexec-file-syscall", *files, line, kernel], timeout=600.0)


def unload() -> None:
    """Forget the kernel that is loaded."""
    run(["kexec", "--unload", "--kexec-file-syscall"])


def is_loaded() -> bool:
    """True if a kernel is loaded."""
    return _LOADED.is_file() and _LOADED.read_text().strip() == "1"


def room() -> int:
    """Bytes of memory that there are for another kernel, as proc(5) tells what is available."""
    rows = (line.split() for line in _MEMORY.read_text().splitlines())
    return next(int(row[1]) * 1024 for row in rows if row[0] == "MemAvailable:")


def execute() -> None:
    """Start the kernel that is loaded, as things are. Returns with an error alone."""
    run(["kexec", "--exec"])


def shut_down() -> None:
    """Ask systemd to shut down and to start the kernel that is loaded. Returns before it happens.

    systemd restarts the machine by the firmware where that fails.
    """
    run(["systemctl", "kexec"])
