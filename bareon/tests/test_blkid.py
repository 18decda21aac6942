# SPDX-License-Identifier: Apache-2.0
"""Labels and other tags as blkid tells them."""

from __future__ import annotations

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
