# SPDX-License-Identifier: Apache-2.0
"""Which kind an image is taken for: by its URL, its content, and where nobody could look, its name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bareon.drivers.deploy.kinds import Auto
from bareon.model.deployment import Deployment
from bareon.model.image import Image, Part
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.tests.ocilayout import packed

LAYOUT = packed([("oci-layout", tarfile.REGTYPE, "", b"{}")])
TAR = tarfile.TarInfo("a").tobuf() + bytes(1024)


def seen(image: Image) -> Image:
    """The image after the driver has looked at it."""
    deployment = Auto().look(Deployment("clean", (), images=(image,)), TransferSettings(connect_timeout=0.2))
    return deployment.images[0]


def test_each_kind_has_a_name_of_its_own() -> None:
    kinds = Auto().kinds
    assert len({kind.name for kind in kinds}) == len(kinds)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("rsync://server/module", "rsync"),
        ("server::module/a.img", "rsync"),
        ("http://server/debian.img.zst", "block"),
        ("swift://images/debian", "block"),
        ("https://server/debian.TAR.xz?temp_url_sig=1", "tar"),
        ("file:///images/debian.tgz", "tar"),
        ("http://server/live/filesystem.squashfs", "squashfs"),
        ("http://server/debian.oci.tar.gz", "oci-layout"),
        ("http://server/tar", "block"),
        ("oci://registry.example.com/images/debian:12", "oci"),
        ("oci+http://server:5000/a.tar", "oci"),
    ],
)
def test_by_its_url(url: str, kind: str) -> None:
    assert Auto().kind_of(Image("a", Location(url))).name == kind


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        *((bytes(4096), "block"), (TAR, "tar"), (b"hsqs" + bytes(96), "squashfs")),
        (LAYOUT, "oci-layout"),
        *((bytes(512) + b"EFI PART" + bytes(4096), "disk"), (bytes(4096) + b"EFI PART", "disk")),
    ],
)
@pytest.mark.pain("compressed-by-name")
def test_by_its_content_whatever_its_name(
    content: bytes, kind: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    for name in ("image.tar.gz", "image.img", "download"):
        file = tmp_path / name
        file.write_bytes(pack(content))
        image = seen(Image("a", Location(file.as_uri())))
        assert image.content == kind
        assert Auto().kind_of(image).name == kind


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="needs qemu-img")
def test_by_what_a_qcow2_holds(tmp_path: Path) -> None:
    raw, file = tmp_path / "raw", tmp_path / "image.tar"
    raw.write_bytes(bytes(512) + b"EFI PART" + bytes(1 << 20))
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", raw, file], check=True)
    assert seen(Image("a", Location(file.as_uri()))).content == "disk"


def test_what_has_parts_is_a_whole_disk_whatever_else_is_seen() -> None:
    image = Image("a", Location("http://server/image.tar"), parts=(Part(1),), content="block")
    assert Auto().kind_of(image).name == "disk"


def test_what_cannot_be_reached_stays_as_it_is(tmp_path: Path) -> None:
    for url in ((tmp_path / "absent").as_uri(), "http://127.0.0.1:1/image", "file:///proc/self/mem"):
        image = Image("a", Location(url))
        assert seen(image) == image
