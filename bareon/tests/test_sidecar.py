# SPDX-License-Identifier: Apache-2.0
"""Digests and sizes that stand beside an image, and what an image is held to by them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from backports import zstd

from bareon.drivers.deploy import offer
from bareon.drivers.deploy.swift import WriteImage
from bareon.errors import ImageFailed, UnsuitableNode
from bareon.model.image import Digest, Image, Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.storage.filesystem import Filesystem, Mount, Mounted, PlannedFilesystem
from bareon.tests.filesystems import with_ext2
from bareon.tests.imageserver import Fault, Site, serving
from bareon.transfer.image import write
from bareon.transfer.sidecar import look_up

PLAIN = with_ext2(random.Random(8).randbytes(3 << 20))
SERVED = gzip.compress(PLAIN, 1)
SETTINGS = TransferSettings(attempts=2, back_off=0.01)


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def digest(data: bytes) -> Digest:
    return Digest("md5", md5(data))


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(b"") as found:
        yield found


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the programs for all file systems for installed."""
    monkeypatch.setattr(offer, "missing", lambda programs: [])


def published(site: Site, entry: object, file: str = "a.img.gz") -> Published:
    site.body = yaml.safe_dump({"images": [entry]}).encode()
    return look_up(Location(f"{site.url}/{file}"), Location(f"{site.url}/a.yaml"), SETTINGS)


def test_all_of_it(site: Site) -> None:
    entry = {"container_name": "a.img.gz", "container_md5": md5(SERVED).upper(), "container_size": len(SERVED)}
    entry |= {"raw_name": "a.img", "raw_md5": md5(PLAIN), "raw_size": len(PLAIN), "container": "gzip"}
    assert published(site, entry) == Published(digest(SERVED), len(SERVED), digest(PLAIN), len(PLAIN))


def test_another_image(site: Site) -> None:
    assert published(site, {"container_name": "b.img.gz", "raw_size": 1}) == Published()


@pytest.mark.parametrize("status", [404, 410])
def test_there_is_none(site: Site, status: int) -> None:
    site.always = Fault(status=status)
    assert look_up(Location(site.url), Location(f"{site.url}/a.yaml"), SETTINGS) == Published()


def test_there_is_no_such_file(tmp_path: Path) -> None:
    assert (
        look_up(Location(f"file://{tmp_path}/a.img"), Location(f"file://{tmp_path}/a.yaml"), SETTINGS) == Published()
    )


@pytest.mark.parametrize("status", [403, 500])
def test_a_server_that_refuses_is_not_one_that_has_none(site: Site, status: int) -> None:
    site.always = Fault(status=status)
    with pytest.raises(ImageFailed, match=str(status)):
        look_up(Location(site.url), Location(f"{site.url}/a.yaml"), SETTINGS)


@pytest.mark.parametrize(
    "text",
    [
        b"a: [",
        b"- images",
        b"images: 5",
        b"images: [a]",
        b"images: [{container_name: a, container_md5: 12}]",
        b"images: [{container_name: a, raw_size: '12'}]",
        b"images: [{container_name: a, raw_size: true}]",
        b"images: !!python/object/apply:os.getpid []",
        b"#" * (1 << 20),
    ],
)
def test_what_cannot_be_understood(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.yaml").write_bytes(text)
    with pytest.raises(ImageFailed):
        look_up(Location(f"file://{tmp_path}/a"), Location(f"file://{tmp_path}/a.yaml"), SETTINGS)


GOOD = Published(digest(SERVED), len(SERVED), digest(PLAIN), len(PLAIN))


@pytest.mark.parametrize(
    ("content", "claims", "words"),
    [
        (SERVED, GOOD, None),
        (SERVED, replace(GOOD, digest=None), None),
        (PLAIN, Published(plain=digest(PLAIN)), None),
        (SERVED, replace(GOOD, digest=digest(b"")), "its md5 is"),
        (SERVED, Published(plain=digest(b"")), "its md5 is"),
        (PLAIN, Published(plain=digest(b"")), "its md5 is"),
        (SERVED, replace(GOOD, size=5), "the image has 3145728 bytes, 5 are published"),
        (SERVED, replace(GOOD, served=5), "bytes, 5 are published"),
    ],
)
def test_an_image_is_held_to_it(tmp_path: Path, content: bytes, claims: Published, words: str | None) -> None:
    (tmp_path / "image").write_bytes(content)
    (tmp_path / "device").write_bytes(b"\xee" * (4 << 20))

    def bring() -> None:
        write(
            Location(f"file://{tmp_path}/image"),
            str(tmp_path / "device"),
            limit=4 << 20,
            digest=None,
            settings=SETTINGS,
            published=claims,
            progress=lambda served, of: None,
        )

    if words is None:
        bring()
        assert (tmp_path / "device").read_bytes()[: len(PLAIN)] == PLAIN
        return
    with pytest.raises(ImageFailed, match=words):
        bring()
    # Nothing that looks like a file system is left.
    assert not any((tmp_path / "device").read_bytes()[: 1 << 20])


def step(site: Site, claims: dict[str, object], room: int = 4 << 20) -> WriteImage:
    """The step that writes an image beside which such claims are published."""
    site.body = SERVED
    text = yaml.safe_dump({"images": [{"container_name": "image", **claims}]}).encode()
    site.before = lambda seen: Fault(body=text) if seen["path"].endswith(".yaml") else None
    image = Image("/", Location(site.url), metadata_url=Location(f"{site.url}.yaml"))
    place = Mounted(PlannedFilesystem("/dev/none", room, "ext4", "", Filesystem("ext4")), Mount("/"))
    return WriteImage("do_copyimage", image, place, SETTINGS)


def test_before_anything_is_written(site: Site) -> None:
    step(site, {"container_size": len(SERVED), "raw_size": len(PLAIN)}).preflight()


def test_another_size_is_refused_before_anything_is_written(site: Site) -> None:
    with pytest.raises(ImageFailed, match="5 are published"):
        step(site, {"container_size": 5}).preflight()


def test_a_published_size_tells_that_it_does_not_fit(site: Site) -> None:
    with pytest.raises(UnsuitableNode, match="image '/' has 3 MiB"):
        step(site, {"raw_size": len(PLAIN)}, 2 << 20).preflight()


@pytest.mark.pain("wrong-size-in-header")
def test_an_image_of_several_frames_is_as_large_as_published(site: Site) -> None:
    write = step(site, {"raw_size": len(PLAIN)})
    site.body = zstd.compress(PLAIN[: 1 << 20]) + zstd.compress(PLAIN[1 << 20 :])
    write.preflight()


def test_frames_behind_the_file_system_count_too(site: Site) -> None:
    write = step(site, {"raw_size": len(PLAIN) + 4096})
    site.body = zstd.compress(PLAIN) + zstd.compress(bytes(4096))
    write.preflight()
    site.body = zstd.compress(PLAIN + bytes(8192))
    with pytest.raises(ImageFailed, match=f"the image has {len(PLAIN) + 8192} bytes, {len(PLAIN) + 4096}"):
        write.preflight()


def test_field_39_a_published_size_tells_that_it_is_cut_short(site: Site) -> None:
    write = step(site, {"raw_size": 2 << 20})
    site.body = bz2.compress(PLAIN, 1)
    with pytest.raises(ImageFailed, match=r"is cut short: its ext2 file system has 3 MiB .* the image 2 MiB"):
        write.preflight()


def test_it_is_asked_for_once(site: Site) -> None:
    write = step(site, {"container_size": len(SERVED)})
    write.preflight()
    site.before = None
    write.preflight()
    assert [request["path"] for request in site.requests].count("/image.yaml") == 1
