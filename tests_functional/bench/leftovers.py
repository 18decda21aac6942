# SPDX-License-Identifier: Apache-2.0
"""What a test session could leave behind on a machine: read before and after, nothing may have been added."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path

from building.process import run
from tests_functional.bench import cell

#: Programs that sessions start.
PROGRAMS = frozenset(
    {
        *("qemu-system-x86", "libvirtd", "virtlogd", "dnsmasq", "rsync", "nginx", "memcached", "tini", "ssh"),
        *("swift-proxy-ser", "swift-account-s", "swift-container", "swift-object-se", "mmdebstrap"),
    }
)
#: Seconds until the kernel has ended what was told to end.
PATIENCE = 10.0
Found = Counter[str]


def read() -> Found:
    """Return what is there, as lines with their numbers: all of them, whoever they belong to.

    Domains and networks of libvirt are found by their processes (qemu, dnsmasq), as each session has a libvirtd of
    its own.
    """
    found: Found = Counter()
    for kind in ("net", "pid"):
        spaces = {space for place in _processes() if (space := _link(place / "ns" / kind))}
        found[f"{kind} namespaces"] = len(spaces)
    names = (_text(place / "comm").strip() for place in _processes())
    found.update(f"process {name}" for name in names if name in PROGRAMS)
    loops = json.loads(run(["losetup", "--json", "--list", "--output", "BACK-FILE"], timeout=10).stdout or "{}")
    found.update(f"loop device of {entry['back-file']}" for entry in loops.get("loopdevices", ()))
    found.update(f"mount at {line.split()[4]}" for line in _text(Path("/proc/self/mountinfo")).splitlines())
    found.update(f"interface {path.name}" for path in Path("/sys/class/net").iterdir())
    found.update(f"directory {path}" for path in Path("/run").glob("ssh-*"))
    found.update(f"directory {path}" for path in Path("/tmp").glob("bareon-*") if path.name != "bareon-artifacts")
    return +found


def _processes() -> list[Path]:
    return [path for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _link(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except OSError:  # it has ended, or is a zombie
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def difference(before: Found) -> list[str]:
    """Return what has been added since, in lines for people; the kernel is given time to finish."""
    deadline = time.monotonic() + PATIENCE
    while (now := read()) - before and time.monotonic() < deadline:
        time.sleep(0.2)
    return [f"{name}: {before[name]} before, {now[name]} after" for name in sorted(now) if now[name] > before[name]]


def others() -> bool:
    """Tell whether another session is at work here: then it cannot be told who left something behind."""
    mine = f"{cell.PARENT_VARIABLE}={os.getpid()}"
    found = (_text(place / "environ").split("\0") for place in _processes())
    return any(line.startswith(cell.PARENT_VARIABLE) and line != mine for lines in found for line in lines)
