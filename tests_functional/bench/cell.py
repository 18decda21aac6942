# SPDX-License-Identifier: Apache-2.0
"""A cell: one process tree with a network, mounts and processes of its own.

Everything a test session starts (libvirtd, virtual machines, DHCP and image servers) lives in a
cell, and the session itself does too. When the session's process ends, however it ends, the kernel
kills whatever is left in the cell and drops its network and its mounts. The machine's own
libvirtd, if it has one, is never touched, and several cells can run side by side.

There is no way out of a cell to the network, so what has to be fetched is fetched before.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from building.process import run

#: Set inside a cell, to the directory for disks and the like; it is in memory and ends with it.
SCRATCH_VARIABLE = "BAREON_CELL"
SCRATCH = Path("/run/bareon")
#: Set inside a cell, to the number of the process outside that asked for it.
PARENT_VARIABLE = "BAREON_CELL_PARENT"
#: Directories of libvirt, hidden behind empty ones; ``/run`` also holds the scratch directory.
PRIVATE = ("/run", "/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt")
#: Exit status of a program that was interrupted from the keyboard.
INTERRUPTED = 130

_ENTER = (
    # The cell ends with this process...
    *("setpriv", "--pdeathsig=KILL"),
    # ...and everything in it with its first process, tini. That one also collects orphans: without
    # it, the daemons that libvirt starts would stay as zombies, and libvirt would wait for them.
    *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
    *("tini", "--"),
)


def inside() -> bool:
    """Tell whether this process runs in a cell."""
    return SCRATCH_VARIABLE in os.environ


def prepare_environment(root: Path) -> None:
    """Set what processes need to enter cells from here; ``root`` is where this package lies."""
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.environ[PARENT_VARIABLE] = str(os.getpid())


def command(argv: Sequence[str]) -> list[str]:
    """Return the command that runs ``argv`` in a new cell, in a prepared environment."""
    return [*_ENTER, sys.executable, "-m", "tests_functional.bench.cell", *argv]


def run_inside(argv: Sequence[str], *, root: Path, cwd: Path | None = None, terminal: bool = False) -> int:
    """Run a command in a new cell and return its exit status.

    :param root: directory to import this package from
    :param cwd: where the command runs
    :param terminal: whether the keyboard is the command's, until it ends; with that an interrupt is, too
    """
    prepare_environment(root)
    with (
        _keyboard() if terminal else nullcontext() as keyboard,
        subprocess.Popen(command(argv), cwd=cwd, stdin=keyboard) as child,
    ):
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.kill()
            return INTERRUPTED


@contextmanager
def _keyboard() -> Iterator[int | None]:
    """Give the terminal as somebody's standard input, if there is one, and it is this process's.

    A terminal stops whoever reads from it without being in its foreground. The cell's first process puts
    there what it starts, if its own standard input is a terminal; afterwards nobody is there.
    """
    try:
        keyboard = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        yield None
        return
    try:
        if os.tcgetpgrp(keyboard) != os.getpgrp():
            yield None
            return
        yield keyboard
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(keyboard, os.getpgrp())
        signal.signal(signal.SIGTTOU, before)
    finally:
        os.close(keyboard)


def _furnish() -> None:
    """Make the new namespaces usable: private directories, a /sys that shows this network, lo."""
    run(["mount", "--make-rprivate", "/"], timeout=10)
    run(["mount", "-t", "sysfs", "sysfs", "/sys"], timeout=10)
    for place in PRIVATE:
        Path(place).mkdir(parents=True, exist_ok=True)
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", place], timeout=10)
    run(["ip", "link", "set", "lo", "up"], timeout=10)
    SCRATCH.mkdir()
    os.environ[SCRATCH_VARIABLE] = str(SCRATCH)


def main() -> None:
    """Furnish the cell this process was started in, then become the command."""
    _furnish()
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
