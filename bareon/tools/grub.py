# SPDX-License-Identifier: Apache-2.0
"""GRUB 2: installing it from the ramdisk or from inside a deployed system, and its configuration."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from bareon.run import run

PROGRAMS = ("grub-install", "chroot")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # of a deployed system
_TIMEOUT = 600.0  # seconds; grub-mkconfig probes each kernel, slowly under emulation


@dataclass(frozen=True)
class Kernel:
    """A kernel and its initial ramdisk, as paths on the file system that GRUB reads them from."""

    image: str
    initrd: str | None


def install_bios(disk: str, boot_directory: str, *, root: str | None = None, program: str = "grub-install") -> None:
    """Put GRUB for BIOS onto ``disk``, its modules below ``boot_directory``.

    :param root: run the program of the system that is mounted there; ``boot_directory`` is then a path inside it.
    """
    inside = ["chroot", root] if root else []
    run(
        [
            *inside,
            program,
            "--target=i386-pc",
            "--no-floppy",
            f"--boot-directory={boot_directory}",
            disk,
        ],
        env={"PATH": _PATH} if root else None,
        timeout=_TIMEOUT,
    )


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
    kept = [line for line in text.splitlines() if not line.endswith(mark)]
    if params:
        kept.append(f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX "{shlex.quote(params)}{mark}')
    return "\n".join(kept) + "\n"


def configuration(title: str, boot_uuid: str, root_uuid: str, kernels: Sequence[Kernel], params: str) -> str:
    """A whole ``grub.cfg`` for an image that has no GRUB of its own; the first kernel is the default."""
    lines = [
        "set default=0",
        "set timeout=3",
        "insmod part_gpt",
        f"search --no-floppy --fs-uuid --set=root {boot_uuid}",
    ]
    for kernel in kernels:
        name = kernel.image.rsplit("/", 1)[-1]
        lines += [
            "",
            f"menuentry '{title}, {name}' {{",
            f"  linux {kernel.image} root=UUID={root_uuid} ro {params}".rstrip(),
            *([f"  initrd {kernel.initrd}"] if kernel.initrd else []),
            "}",
        ]
    return "\n".join(lines) + "\n"
