# SPDX-License-Identifier: Apache-2.0
"""GRUB 2: installing it from the ramdisk, and having a deployed system write its configuration."""

from __future__ import annotations

from pathlib import Path

from bareon.run import run
from bareon.tools import sandbox

PROGRAMS = ("grub-install", "grub-mkrelpath")
MODULES = "/usr/lib/grub"
"""The folder with GRUB's modules, in a folder for each platform: the ramdisk's, and that of most systems."""

_TIMEOUT = 600.0  # seconds; slow under emulation


def has_modules(target: str) -> bool:
    """True if GRUB for ``target`` (``i386-pc``, ``x86_64-efi``) is installed here."""
    return Path(MODULES, target, "normal.mod").is_file()


def install_bios(disk: str, boot_directory: str, *, modules: str) -> None:
    """Put GRUB for BIOS onto ``disk``, its modules below ``boot_directory``.

    :param modules: the folder that they come from, which tells the platform.
    """
    run(
        ["grub-install", f"--directory={modules}", "--no-floppy", f"--boot-directory={boot_directory}", disk],
        timeout=_TIMEOUT,
    )


def install_uefi(esp: str, boot_directory: str, *, modules: str, loader: str) -> None:
    """Put GRUB for UEFI onto the system partition mounted at ``esp``; NVRAM is left alone.

    :param modules: as for :func:`install_bios`.
    :param loader: the name of its folder there.
    """
    argv = ["grub-install", f"--directory={modules}", "--no-nvram", f"--efi-directory={esp}"]
    run([*argv, f"--bootloader-id={loader}", f"--boot-directory={boot_directory}"], timeout=_TIMEOUT)


def relative(path: str) -> str:
    """A path as GRUB sees it: from the root of its file system, be that a subvolume."""
    return run(["grub-mkrelpath", path]).stdout.rstrip("\n")


def mkconfig(view: sandbox.View, config: str, program: str = "grub-mkconfig") -> None:
    """Let a deployed system write its own configuration, in a sandbox.

    :raises CommandError: when it fails.
    """
    sandbox.run_inside(view, [program, "-o", config], env={"GRUB_DISABLE_OS_PROBER": "true"})
