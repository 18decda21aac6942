# SPDX-License-Identifier: Apache-2.0
"""Archives on their way from a file: what is none, and what has no end."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from bareon.errors import ImageFailed
from bareon.model.image import Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.sizes import MIB
from bareon.tests.test_archives import FILE, archive
from bareon.transfer.archive import bring
from bareon.transfer.stage import stage
from bareon.transfer.tarstream import Walk

_QCOW2 = b"QFI\xfb" + bytes(64 * 1024)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (_QCOW2, "no tar archive"),
        (gzip.compress(archive(FILE) + bytes(9 * MIB)), "holds more than the 8 MiB of all volumes"),
        (gzip.compress(archive(("left-out", b"0", "", bytes(9 * MIB)))), "holds more than the 8 MiB of all volumes"),
    ],
)
def test_what_is_read_through(content: bytes, says: str, tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.write_bytes(content)
    with pytest.raises(ImageFailed, match=says):
        bring(
            Location(f"file://{place}"),
            Walk(lambda member: False),
            None,
            digest=None,
            published=Published(),
            settings=TransferSettings(),
            limit=8 * MIB,
            progress=lambda served, of: None,
        )


def test_qcow2_where_a_squashfs_was_seen_before(tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.write_bytes(_QCOW2)
    descriptor = os.memfd_create("staged")
    try:
        with pytest.raises(ImageFailed, match="is a qcow2 image"):
            stage(
                Location(f"file://{place}"),
                descriptor,
                digest=None,
                published=Published(),
                settings=TransferSettings(),
                limit=8 * MIB,
                progress=lambda served, of: None,
            )
    finally:
        os.close(descriptor)
