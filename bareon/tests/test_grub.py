# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shlex
import subprocess

from bareon.tools.grub import Kernel, configuration, with_kernel_params


def _sourced(text: str) -> str:
    """GRUB_CMDLINE_LINUX as grub-mkconfig would see it: the file is a piece of shell."""
    done = subprocess.run(["sh", "-c", f'{text}\nprintf %s "$GRUB_CMDLINE_LINUX"'], capture_output=True, text=True)
    return done.stdout


def test_params_are_added_to_those_of_the_image_once() -> None:
    image = 'GRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX="console=ttyS0"\n'
    once = with_kernel_params(image, "quiet rd.x=1")
    assert _sourced(once) == "console=ttyS0 quiet rd.x=1"
    assert with_kernel_params(once, "quiet rd.x=1") == once
    assert with_kernel_params(once, "") == image
    assert with_kernel_params(image, "") == image


def test_params_run_nothing() -> None:
    evil = "a=$(touch /x) `id` ; echo"
    assert _sourced(with_kernel_params("", evil)).strip() == evil
    assert shlex.split(with_kernel_params("", "a b"))


def test_configuration_of_an_image_without_grub() -> None:
    kernels = [Kernel("/boot/vmlinuz-6.1", "/boot/initrd.img-6.1"), Kernel("/boot/vmlinuz-5.10", None)]
    text = configuration("debian", "boot-uuid", "root-uuid", kernels, "quiet")
    assert "search --no-floppy --fs-uuid --set=root boot-uuid\n" in text
    assert "  linux /boot/vmlinuz-6.1 root=UUID=root-uuid ro quiet\n  initrd /boot/initrd.img-6.1\n" in text
    assert "  linux /boot/vmlinuz-5.10 root=UUID=root-uuid ro quiet\n}\n" in text
    assert text.index("6.1") < text.index("5.10")
