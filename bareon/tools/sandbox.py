# SPDX-License-Identifier: Apache-2.0
"""Programs of a deployed system, run in a sandbox: bwrap(1) of bubblewrap.

A program of an image is a stranger. It has namespaces of its own, without a network; of capabilities those by which
root handles files; and of the machine nothing but the tree of its image and what a :class:`View` names.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bareon.errors import ActionFailed, CommandError
from bareon.run import Command, run
from bareon.sizes import GIB, MIB, human
from bareon.tools import seccomp
from bareon.tools.entrance import enter
from bareon.tools.mount import attach, points

LOG = logging.getLogger(__name__)

PROGRAMS = ("bwrap", "mount")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PLACE = "/run/bareon/sandbox"
"""The folder of the ramdisk for what a sandbox is made of."""

#: By which root handles files. None of them reaches beyond the tree.
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID")

_PATIENCE = 10.0  # seconds until what was killed is gone

_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
)


@dataclass(frozen=True)
class Limits:
    """What one call may use: wall time in ``seconds``; ``memory`` of all its processes and files in memory, and what
    it may write to its ``View.volumes``, in bytes; the number of its ``processes``.

    ``memory`` 0 is three quarters of what is free.
    """

    seconds: float = 600.0
    memory: int = 0
    written: int = 8 * GIB
    processes: int = 4096


@dataclass(frozen=True)
class View:
    """What a program of an image sees of the machine: the tree of its image at ``root``.

    ``volumes`` are the places of its file systems in the ramdisk, ``hidden`` folders of the tree that it sees empty,
    ``fresh`` those that are its own for this call, ``blank`` files that it sees empty. ``devices`` are block devices
    it may use. ``names`` are paths below /dev that exist and lead to nothing: programs look for names that they only
    write down. ``files`` are texts that stand in for files of the image, by path. ``efi`` is whether the machine
    has such a firmware. ``place`` is the folder in the ramdisk for what the sandbox is made of.
    """

    root: str
    volumes: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ("/run", "/tmp")
    blank: tuple[str, ...] = ("/proc/cmdline",)
    efi: bool = False
    place: str = PLACE


def run_inside(
    view: View,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    limits: Limits = Limits(),
) -> Command:
    """Run a program of an image to its end, and end what it has started.

    :param env: all of its environment, besides PATH, HOME and the locale.
    :raises CommandError: as :func:`bareon.run.run`; also when it took more than the limits.
    """
    files = _prepare(view)
    memory = limits.memory or available_memory() * 3 // 4
    with _group(view.place, memory, limits.processes) as group, _held(view.volumes) as volumes:
        used = _used(volumes)
        rules = os.open(f"{view.place}/filter", os.O_RDONLY)
        try:
            return run(
                command(view, argv, files, {**_ENVIRONMENT, **(env or {})}, rules),
                keep=[rules],
                before=lambda: enter(view.place, group, limits.written),
                # Not the ramdisk's /dev/null, of which a program of root could change the mode.
                stdin="",
                timeout=limits.seconds,
                env=_ENVIRONMENT,
                inherit=False,
                at_most=MIB,
                check=lambda: _written_too_much(volumes, used, limits.written),
            )
        except CommandError as error:
            reason = error.reason
            if _out_of_memory(group):
                reason = f"was ended: it took more than {human(memory)} of memory"
            raise CommandError(tuple(argv), error.code, reason, error.stdout, error.stderr) from None
        finally:
            os.close(rules)


def _prepare(view: View) -> list[str]:
    """Make what a sandbox is made of; the paths of the texts of ``View.files``."""
    place = view.place
    for name in ("root", "sys", "dev", "files", "cgroup"):
        Path(place, name).mkdir(parents=True, exist_ok=True)
    if not Path(place, "filter").exists():
        new = Path(place, "filter.new")
        seccomp.write_filter(new)
        new.replace(Path(place, "filter"))
    Path(place, "blank").write_text("\n")
    paths = [Path(place, "files", str(number)) for number, _ in enumerate(view.files)]
    for path, text in zip(paths, view.files.values(), strict=True):
        path.write_text(text)
        path.chmod(0o755)
    return list(map(str, paths))


_ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "LANG": "C", "LC_ALL": "C", "TZ": "UTC"}


def command(view: View, argv: Sequence[str], files: Sequence[str], env: Mapping[str, str], rules: int) -> list[str]:
    """The argument list of bwrap.

    :param files: the paths in the ramdisk of the texts of ``View.files``.
    :param rules: a descriptor of the filter of system calls.
    """
    words = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    words += ["--new-session", "--die-with-parent", "--hostname", "localhost"]
    words += ["--bind", view.root, "/", "--dev-bind", f"{view.place}/dev", "/dev", "--proc", "/proc"]
    words += ["--ro-bind", f"{view.place}/sys", "/sys"]
    # What firmware, a virtual machine's host or the boot loader handed to the ramdisk may be secret.
    for path in view.blank:
        words += ["--ro-bind", f"{view.place}/blank", path]
    words += ["--remount-ro", "/proc", "--tmpfs", "/sys/firmware"]
    words += ["--dir", "/sys/firmware/efi"] if view.efi else []
    words += ["--remount-ro", "/sys/firmware"]
    for folder in view.fresh:
        words += ["--perms", "1777" if folder == "/tmp" else "0755", "--tmpfs", folder]
    for folder in view.hidden:
        words += ["--tmpfs", folder, "--remount-ro", folder]
    for name, target in _LINKS:
        words += ["--symlink", target, name]
    for name in view.names:
        words += ["--symlink", "/dev/null", name]
    for device in view.devices:
        words += ["--dev-bind", device, device]
    for path, file in zip(view.files, files, strict=True):
        words += ["--ro-bind", file, path]
    words += ["--cap-drop", "ALL"]
    for capability in _CAPABILITIES:
        words += ["--cap-add", f"CAP_{capability}"]
    words += ["--seccomp", str(rules), "--chdir", "/", "--clearenv"]
    for name, value in env.items():
        words += ["--setenv", name, value]
    return [*words, "--", *argv]


def available_memory(root: Path = Path("/")) -> int:
    """The kernel's estimate of the memory that can be had without swapping, in bytes; proc_meminfo(5).

    :param root: the folder with ``proc``.
    """
    match = re.search(r"^MemAvailable:\s+([0-9]+) kB$", (root / "proc/meminfo").read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else GIB


@contextlib.contextmanager
def _group(place: str, memory: int, processes: int) -> Iterator[str]:
    """A control group with limits, of version 2, for the length of a ``with`` block; its folder.

    Where it is mounted it stays mounted until the namespace of this run ends, for the next call.
    What is left in it then is ended: the first process of a sandbox is one that its others could have changed.
    """
    top = Path(place, "cgroup")
    if not os.path.ismount(top):
        attach("cgroup2", str(top), kind="cgroup2")
    group = top / "bareon"
    group.mkdir(exist_ok=True)
    try:
        _limit(top, group, memory, processes)
        yield str(group)
    finally:
        _end_all(group)


def _limit(top: Path, group: Path, memory: int, processes: int) -> None:
    if not {"memory", "pids"} <= set((top / "cgroup.controllers").read_text().split()):
        LOG.warning(
            "the kernel has no control groups for memory and processes: programs of images have no such limits"
        )
        return
    (top / "cgroup.subtree_control").write_text("+memory +pids")
    (group / "memory.max").write_text(str(memory))
    (group / "memory.oom.group").write_text("1")
    (group / "pids.max").write_text(str(processes))


def _end_all(group: Path) -> None:
    """End the processes of a control group, and remove it.

    :raises ActionFailed: when some do not end.
    """
    given_up = time.monotonic() + _PATIENCE
    while "populated 1" in (group / "cgroup.events").read_text():
        if time.monotonic() > given_up:
            raise ActionFailed(f"a program of the image has left processes that do not end, see {group}/cgroup.procs")
        (group / "cgroup.kill").write_text("1")
        time.sleep(0.05)
    with contextlib.suppress(OSError):  # it is empty, and the next call takes it again
        group.rmdir()


def _out_of_memory(group: str) -> bool:
    """True if the kernel has ended a process of a control group for its memory."""
    events = Path(group, "memory.events")
    return events.exists() and not re.search(r"^oom_kill 0$", events.read_text(), re.MULTILINE)


@contextlib.contextmanager
def _held(places: Sequence[str]) -> Iterator[list[int]]:
    """Descriptors of the file systems that are mounted at these places: a program may move a folder around one.

    :raises ActionFailed: when one before it has: what is to be hidden would be in sight under another name.
    """
    if moved := sorted(set(places) - points()):
        raise ActionFailed(f"a program of the image has moved a folder around the mount point {moved[0]}")
    with contextlib.ExitStack() as stack:
        held = [os.open(place, os.O_PATH) for place in places]
        for descriptor in held:
            stack.callback(os.close, descriptor)
        yield held


def _used(volumes: Sequence[int]) -> int:
    """Bytes that are used of file systems."""
    found = {os.fstat(x).st_dev: os.statvfs(x) for x in volumes}
    return sum((x.f_blocks - x.f_bfree) * x.f_frsize for x in found.values())


def _written_too_much(volumes: Sequence[int], before: int, most: int) -> str | None:
    written = _used(volumes) - before
    return f"it has written {human(written)}, more than {human(most)}" if written > most else None
