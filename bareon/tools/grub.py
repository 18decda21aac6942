# SPDX-License-Identifier: Apache-2.0
"""GRUB 2: installing it from the ramdisk or from inside a deployed system, and its configuration."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bareon.run import run

PROGRAMS = ("grub-install", "chroot")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # of a deployed system
_TIMEOUT = 600.0  # seconds; grub-mkconfig probes each kernel, slowly under emulation


def has_modules(target: str) -> bool:
    """Whether GRUB for ``target`` (``i386-pc``, ``x86_64-efi``) is installed here."""
    return Path("/usr/lib/grub", target, "normal.mod").is_file()


def install_bios(disk: str, boot_directory: str, *, root: str | None = None, program: str = "grub-install") -> None:
    """Put GRUB for BIOS onto ``disk``, its modules below ``boot_directory``.

    :param root: run the program of the system that is mounted there; ``boot_directory`` is then a path inside it.
    """
    _install(root, [program, "--target=i386-pc", "--no-floppy", f"--boot-directory={boot_directory}", disk])


def install_uefi(
    esp: str,
    boot_directory: str,
    *,
    root: str | None = None,
    program: str = "grub-install",
    loader: str | None = None,
) -> None:
    """Put GRUB for UEFI onto the system partition mounted at ``esp``; NVRAM is left alone.

    :param root: as for :func:`install_bios`, for both paths.
    :param loader: the name of its folder there. ``None``: what the program takes by itself, as a signed GRUB needs
        it, which knows but one place to look for its configuration.
    """
    argv = [program, "--target=x86_64-efi", "--no-nvram", f"--efi-directory={esp}"]
    argv += [f"--bootloader-id={loader}"] if loader else []
    _install(root, [*argv, f"--boot-directory={boot_directory}"])


def _install(root: str | None, argv: Sequence[str]) -> None:
    inside = ["chroot", root] if root else []
    run([*inside, *argv], env={"PATH": _PATH} if root else None, timeout=_TIMEOUT)


def mkconfig(root: str, config: str, program: str = "grub-mkconfig") -> None:
    """Let the deployed system write its own configuration."""
    run(
        ["chroot", root, program, "-o", config],
        env={"GRUB_DISABLE_OS_PROBER": "true", "PATH": _PATH},
        timeout=_TIMEOUT,
    )


def with_kernel_params(text: str, params: str) -> str:
    """``/etc/default/grub`` with the parameters added to those of the image; a former addition is replaced."""
    mark = "  # bareon"
    kept = [line for line in text.rstrip("\n").split("\n") if not line.endswith(mark)]
    if params:
        kept.append(f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX "{shlex.quote(params)}{mark}')
    return "\n".join(kept) + "\n"


# Lines of grub.cfg. An entry that was chosen for one boot is forgotten before it boots, so that a power cycle leaves
# a system that hangs. None of them looks like the line "set default=N", which people and programs edit.
ONCE = (
    "insmod ext2",
    "if [ -s $prefix/grubenv ]; then",
    "  load_env --file $prefix/grubenv next_entry",
    "fi",
    'if [ "${next_entry}" ]; then',
    '  default="${next_entry}"',
    "  next_entry=",
    "  save_env --file $prefix/grubenv next_entry",
    "fi",
)


def environment() -> str:
    """An empty environment block, in which GRUB itself may write at boot; it has a fixed size."""
    return "# GRUB Environment Block\n".ljust(1024, "#")


@dataclass(frozen=True)
class Entry:
    """A menu entry. ``uuid`` is that of the file system with the kernel, which GRUB reads by ``modules``."""

    title: str
    kernel: str
    initrd: str | None
    uuid: str
    arguments: str
    modules: tuple[str, ...] = ()


def configuration(entries: Sequence[Entry], head: Sequence[str] = (), *, default: int = 0, timeout: int = 3) -> str:
    """A whole ``grub.cfg`` that needs nothing of the systems it starts; ``head`` are lines before the entries."""
    lines = ["# Written by bareon. Entries are counted from 0; the number in the next line is the one that boots."]
    lines += [f"set default={default}", f"set timeout={timeout}", "insmod part_gpt", *head]
    for entry in entries:
        lines += [
            "",
            f"menuentry {quoted(entry.title)} {{",
            *(f"  insmod {module}" for module in entry.modules),
            f"  search --no-floppy --fs-uuid --set=root {entry.uuid}",
            f"  linux {entry.kernel} {entry.arguments}".rstrip(),
            *([f"  initrd {entry.initrd}"] if entry.initrd else []),
            "}",
        ]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A text as a word of GRUB's language, in which nothing has a meaning between apostrophes."""
    return "'" + "".join(char for char in text if char.isprintable() and char != "'") + "'"
