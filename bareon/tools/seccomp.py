# SPDX-License-Identifier: Apache-2.0
"""A filter of system calls, made by libseccomp, for what is run in a sandbox; seccomp(2).

What is listed here is refused, everything else is left to capabilities and namespaces: the filter closes what these
do not reach, such as user namespaces in which a program is given capabilities again, sockets of a virtual machine's
host, and old corners of the kernel that no program of an image has any need of. Programs of another architecture,
whose calls have other numbers, are ended by it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

LIBRARY = "libseccomp.so.2"

_ALLOW = 0x7FFF0000
_EPERM, _ENOSYS = (0x00050000 | number for number in (errno.EPERM, errno.ENOSYS))
_GREATER, _EQUAL, _MASKED = 6, 4, 7  # enum scmp_compare of seccomp.h
REFUSED = (
    # Mounts and namespaces.
    *("mount", "umount", "umount2", "pivot_root", "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig"),
    *("fspick", "mount_setattr", "unshare", "setns", "chroot"),
    # The kernel: its modules, its successor, its log, its tracing, its keys, its other interpreters.
    *("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "syslog"),
    *("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("add_key", "request_key", "keyctl", "fanotify_init", "lookup_dcookie", "nfsservctl", "uselib", "acct"),
    # The machine: ports, clock, names, swap areas, quotas, terminals.
    *("iopl", "ioperm", "settimeofday", "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64"),
    *("adjtimex", "stime", "sethostname", "setdomainname", "swapon", "swapoff", "quotactl", "quotactl_fd", "vhangup"),
    # Other processes, and files by their numbers.
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "open_by_handle_at"),
)
#: Numbers of system calls since Linux 5.1, the same on all architectures. Of those that libseccomp does not know, the
#: kernel seems to have none: a newer one opens nothing by itself.
_YOUNG = range(424, 768)
_NATIVE, _OPTIMIZE, _TREE = 0, 8, 2  # SCMP_ARCH_NATIVE, SCMP_FLTATR_CTL_OPTIMIZE, a binary tree
_NEW_NAMESPACES = 0x7E020000 | 0x00000080  # CLONE_NEW* of sched.h
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
_TERMINAL_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def has_library() -> bool:
    """True if libseccomp is installed."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def write_filter(path: Path) -> None:
    """Write the filter to a file, as the kernel takes it.

    :raises OSError: when libseccomp is missing or refuses.
    """
    library = ctypes.CDLL(LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ALLOW)))
    if not context:
        raise OSError(errno.ENOMEM, "libseccomp gives no filter")
    try:
        _sure(library.seccomp_attr_set(context, _OPTIMIZE, ctypes.c_uint32(_TREE)), "optimize")
        for name, action, compared in _rules():
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number != -1:  # one that this libseccomp does not know of
                array = (_Comparison * len(compared))(*compared)
                added = library.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(compared), array)
                _sure(added, name)
        for number in _YOUNG:
            if library.seccomp_syscall_resolve_num_arch(ctypes.c_uint32(_NATIVE), number) is None:
                _sure(library.seccomp_rule_add_array(context, ctypes.c_uint32(_ENOSYS), number, 0, None), str(number))
        with path.open("wb") as file:
            _sure(library.seccomp_export_bpf(context, file.fileno()), "export")
    finally:
        library.seccomp_release(context)


def _rules() -> list[tuple[str, int, tuple[_Comparison, ...]]]:
    """System calls, what they get, and on which arguments."""
    rules: list[tuple[str, int, tuple[_Comparison, ...]]] = [(name, _EPERM, ()) for name in REFUSED]
    # Its flags are in memory, where no filter looks; C libraries then take clone().
    rules += [("clone3", _ENOSYS, ())]
    flags = [1 << bit for bit in range(32) if _NEW_NAMESPACES >> bit & 1]
    rules += [("clone", _EPERM, (_Comparison(0, _MASKED, flag, flag),)) for flag in flags]
    gaps = [number for number in range(max(_FAMILIES)) if number not in _FAMILIES]
    rules += [("socket", _EPERM, (_Comparison(0, _EQUAL, number, 0),)) for number in gaps]
    rules += [("socket", _EPERM, (_Comparison(0, _GREATER, max(_FAMILIES), 0),))]
    rules += [("ioctl", _EPERM, (_Comparison(1, _MASKED, 0xFFFFFFFF, code),)) for code in _TERMINAL_INPUT]
    return rules


def _sure(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"libseccomp: {what}: {os.strerror(-result)}")
