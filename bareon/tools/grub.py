# SPDX-License-Identifier: Apache-2.0
"""GRUB 2: installing it from the ramdisk or from inside a deployed system, and having it write its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bareon.run import run
from bareon.tools import chroot

PROGRAMS = ("grub-install", *chroot.PROGRAMS)


def has_modules(target: str) -> bool:
    """True if GRUB for ``target`` (``i386-pc``, ``x86_64-efi``) is installed here."""
    return Path("/usr/lib/grub", target, "normal.mod").is_file()


def install_bios(
    disk: str, boot_directory: str, *, target: str, root: str | None = None, program: str = "grub-install"
) -> None:
    """Put GRUB for BIOS onto ``disk``, its modules below ``boot_directory``.

    :param target: GRUB's name of the platform, such as ``i386-pc``.
    :param root: run the program of the system that is mounted there; ``boot_directory`` is then a path inside it.
    """
    _install(root, [program, f"--target={target}", "--no-floppy", f"--boot-directory={boot_directory}", disk])


def install_uefi(
    esp: str,
    boot_directory: str,
    *,
    target: str,
    root: str | None = None,
    program: str = "grub-install",
    loader: str | None = None,
) -> None:
    """Put GRUB for UEFI onto the system partition mounted at ``esp``; NVRAM is left alone.

    :param target: as for :func:`install_bios`, such as ``x86_64-efi``.
    :param root: as for :func:`install_bios`, for both paths.
    :param loader: the name of its folder there. ``None``: what the program takes by itself, as a signed GRUB needs
        it, which knows but one place to look for its configuration.
    """
    argv = [program, f"--target={target}", "--no-nvram", f"--efi-directory={esp}"]
    argv += [f"--bootloader-id={loader}"] if loader else []
    _install(root, [*argv, f"--boot-directory={boot_directory}"])


def _install(root: str | None, argv: Sequence[str]) -> None:
    if root:
        chroot.run_inside(root, argv)
    else:
        run(argv, timeout=chroot.TIMEOUT)


def mkconfig(root: str, config: str, program: str = "grub-mkconfig") -> None:
    """Let the deployed system write its own configuration."""
    chroot.run_inside(root, [program, "-o", config], env={"GRUB_DISABLE_OS_PROBER": "true"})
