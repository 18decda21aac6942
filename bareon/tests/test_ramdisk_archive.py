# SPDX-License-Identifier: Apache-2.0
"""The initramfs of the bench's ramdisk, as those read it who hand it to a kernel."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ramdisk import archive

#: What a frame of zstd begins with; RFC 8878, 3.1.1.
ZSTD = b"\x28\xb5\x2f\xfd"


@pytest.mark.skipif(not all(map(shutil.which, ("cpio", "zstd", "bash"))), reason="cpio or zstd is not installed")
def test_ironic_does_not_take_a_ramdisk_for_a_compressed_image(tmp_path: Path) -> None:
    """It would unpack one: ``_handle_zstd_compression`` of Ironic's ``images.py`` looks at the first four bytes."""
    for name in ("base", "overlay"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    archive.pack(tmp_path / "base", tmp_path / "base.cpio.zst", level=1)
    archive.pack(tmp_path / "overlay", tmp_path / "overlay.cpio")
    archive.join([tmp_path / "base.cpio.zst", tmp_path / "overlay.cpio"], tmp_path / "initramfs")

    whole = (tmp_path / "initramfs").read_bytes()
    base, overlay = (tmp_path / "base.cpio.zst").read_bytes(), (tmp_path / "overlay.cpio").read_bytes()
    assert base.startswith(ZSTD) and not whole.startswith(ZSTD)
    front = whole.removesuffix(base + overlay)
    assert len(whole) - len(front) == len(base) + len(overlay)
    assert len(front) % archive.ALIGNMENT == 0
    done = subprocess.run(["cpio", "--list", "--quiet"], input=front, capture_output=True, check=True)
    assert done.stdout == b""
