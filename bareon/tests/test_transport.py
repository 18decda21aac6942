# SPDX-License-Identifier: Apache-2.0
"""The bus of a disk: of NVMe what its controllers say in sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bareon.tools import lsblk


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"device/transport": "pcie"}, "nvme"),
        ({"device/transport": "tcp"}, "nvme-tcp"),
        ({"device/nvme0/transport": "rdma", "device/nvme1/transport": "rdma"}, "nvme-rdma"),
        ({"device/nvme0/transport": "pcie", "device/nvme1/transport": "fc"}, "nvme-fc"),
        ({}, "nvme"),
    ],
    ids=str,
)
def test_nvme(said: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in said.items():
        place = tmp_path / "nvme0n1" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")
    monkeypatch.setattr(lsblk, "SYS", tmp_path)
    rest = (False, False, 512, 512, None, None, None, None, "nvme")
    assert lsblk.transport(lsblk.BlockDevice("/dev/nvme0n1", "nvme0n1", "disk", 1, "259:0", None, *rest)) == expected


def test_what_is_no_nvme_is_at_the_bus_that_lsblk_knows() -> None:
    rest = (False, False, 512, 512, None, None, None, "2:0:0:1", "iscsi")
    assert lsblk.transport(lsblk.BlockDevice("/dev/sda", "sda", "disk", 1, "8:0", None, *rest)) == "iscsi"
