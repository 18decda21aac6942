# SPDX-License-Identifier: Apache-2.0
"""Labels and other tags as blkid tells them."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import pytest

from bareon.run import run
from bareon.tools import blkid


@pytest.mark.parametrize("label", ["plain", "Größe 1", " a\\b", "x=y", "a\nb", "日本", '"$x"'])
def test_a_label_comes_back_as_it_was_given(label: str, tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    run(["mkfs.ext4", "-q", "-F", "-L", label, "-U", "c0ffee00-0000-4000-8000-000000000001", str(image)])
    tags = blkid.probe([str(image)])[str(image)]
    assert tags == {"TYPE": "ext4", "UUID": "c0ffee00-0000-4000-8000-000000000001", "LABEL": label}


def test_what_has_no_signature_is_left_out(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    assert blkid.probe([str(image)]) == {}


def test_a_label_in_another_encoding_is_read_all_the_same() -> None:
    assert blkid.parse("ID_FS_TYPE=vfat\nID_FS_LABEL_ENC=GR\\xd6SSE\n") == {"TYPE": "vfat", "LABEL": "GR\ufffdSSE"}


# What make-bcache -C cache -B backing of bcache-tools 1.0.8 writes, from byte 4096 on, compressed.
CACHE = (
    "eNpb6Si+XLPep4iDARUcay3+5ifleqop9Wu9x67cxlhVi/DAMseTOyw0Cnd9dGu5s6+W4ZCCI9OUa7f5d7ZyRjDQGTRAaaC7WRih"
    "bEYyzAEAnz8aKg=="
)
BACKING = (
    "eNpr5bn2c8bdVhMOBghghNLHWou/+Um5nmpK/VrvsSu30YSJuXXpB3fDOY+/lSeo+z68s6+W4ZCCI9OUa7f5d7ZyRjAMEAC6m4US/QBoERu1"
)


@pytest.mark.parametrize("superblock", [CACHE, BACKING])
@pytest.mark.pain("bcache-and-zfs")
def test_the_devices_of_a_bcache_set_have_the_uuid_of_the_set(superblock: str, tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(8 << 20)
        file.seek(4096)
        file.write(zlib.decompress(base64.b64decode(superblock)))
    tags = blkid.probe([str(image)])[str(image)]
    assert tags == {"TYPE": "bcache", "UUID": "dcbe7d00-c220-4102-94d6-db0fb9850958"}
