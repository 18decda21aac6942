# SPDX-License-Identifier: Apache-2.0
"""Content-Encoding that a server adds though it was asked for none: undone, or refused before the first write."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backports import zstd

from bareon.errors import ImageFailed
from bareon.model.image import Digest
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.tests.imageserver import Fault, Site, serving
from bareon.transfer.document import fetched
from bareon.transfer.image import Written, first_bytes, inspect, write

MIB = 1 << 20
SETTINGS = TransferSettings(attempts=3, total_timeout=20, connect_timeout=2, idle_timeout=1, back_off=0.01)
IMAGE = random.Random(1).randbytes(2 * MIB) + bytes(2 * MIB) + random.Random(2).randbytes(MIB)
LIMIT = 6 * MIB

CODE: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda plain: gzip.compress(plain, 1),
    "X-Gzip": lambda plain: gzip.compress(plain, 1),
    "zstd": lambda plain: zstd.compress(plain, 1),
    "xz": lambda plain: lzma.compress(plain, preset=0),
    "x-bzip2": lambda plain: bz2.compress(plain, 1),
}


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(IMAGE) as served:
        yield served


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "device"
    path.write_bytes(b"\xee" * LIMIT)
    return path


def encoded(site: Site, coding: str, plain: bytes = IMAGE) -> None:
    """Serve the file encoded, and say so."""
    site.body, site.always = CODE[coding](plain), labelled(coding)


def labelled(coding: str, **more: object) -> Fault:
    return Fault(headers={"Content-Encoding": coding}, **more)  # type: ignore[arg-type]


def bring(urls: str | tuple[str, ...], device: Path, published: bytes | None = IMAGE) -> Written:
    """Bring a file, held to the digest of what was published."""
    first, *others = (Location(x) for x in ((urls,) if isinstance(urls, str) else urls))
    digest = Digest("sha256", hashlib.sha256(published).hexdigest()) if published is not None else None
    return write(
        Location(first.reveal(), tuple(others)),
        str(device),
        limit=LIMIT,
        digest=digest,
        settings=SETTINGS,
        progress=lambda served, of: None,
    )


def arrived(device: Path) -> bool:
    return device.read_bytes()[: len(IMAGE)] == IMAGE


@pytest.mark.parametrize("coding", CODE)
@pytest.mark.pain("content-encoding")
def test_it_is_undone(coding: str, site: Site, device: Path) -> None:
    encoded(site, coding)
    offer = inspect(Location(site.url), SETTINGS)
    assert (offer.served, offer.size, offer.format) == (None, None, "raw")
    written = bring(site.url, device)
    assert arrived(device)
    assert written.served == written.size == len(IMAGE)
    assert all(x["Accept-Encoding"] == "identity" for x in site.requests)


def test_a_packed_image_that_is_encoded_once_more(site: Site, device: Path) -> None:
    packed = lzma.compress(IMAGE, preset=0)
    encoded(site, "gzip", packed)
    url = f"{site.url}.xz"
    assert inspect(Location(url), SETTINGS).format == "xz"
    bring(url, device, packed)
    assert arrived(device)


@pytest.mark.parametrize(("ending", "coding"), [(".img.gz", "gzip"), (".IMG.GZ", "x-gzip"), (".zst", "zstd")])
def test_what_is_named_as_the_file_is_is_the_files_own(ending: str, coding: str, site: Site, device: Path) -> None:
    encoded(site, coding.replace("x-gzip", "gzip"))
    url = f"{site.url}{ending}?temp_url_sig=1"
    offer = inspect(Location(url), SETTINGS)
    assert (offer.served, offer.format) == (len(site.body), "zstd" if coding == "zstd" else "gzip")
    bring(url, device, site.body)
    assert arrived(device)


@pytest.mark.parametrize("coding", ["", "identity", "aws-chunked", "Identity, aws-chunked"])
def test_what_says_nothing(coding: str, site: Site, device: Path) -> None:
    site.always = labelled(coding)
    assert inspect(Location(site.url), SETTINGS).served == len(IMAGE)
    bring(site.url, device)
    assert arrived(device)


@pytest.mark.parametrize("coding", ["deflate", "br", "compress", "gzip, gzip", "\x1b[31m"])
@pytest.mark.pain("content-encoding")
def test_what_cannot_be_undone_is_refused(coding: str, site: Site, device: Path) -> None:
    site.always = labelled(coding)
    words = r"the server encodes it \(Content-Encoding: .*\), though it was asked for none: serve the file as it is$"
    for look in (inspect, first_bytes):
        with pytest.raises(ImageFailed, match=words) as caught:
            look(Location(f"{site.url}.br"), SETTINGS)
        assert str(caught.value).isprintable()
    with pytest.raises(ImageFailed, match=words):
        bring(site.url, device)
    assert device.read_bytes() == b"\xee" * LIMIT


def test_what_is_not_encoded_as_it_says(site: Site, device: Path) -> None:
    site.always = labelled("gzip")
    with pytest.raises(ImageFailed, match="says Content-Encoding: gzip, and sends something else"):
        inspect(Location(site.url), SETTINGS)


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_it_is_resumed(coding: str, ranges: bool, site: Site, device: Path) -> None:
    encoded(site, coding)
    site.ranges, site.etag = ranges, '"one-gzip"'
    site.faults += [labelled(coding, cut=MIB), labelled(coding, cut=(1 if ranges else 2) * MIB)]
    assert bring(site.url, device).attempts == 3
    assert arrived(device)
    if ranges:
        assert [x.get("Range") for x in site.requests] == [None, f"bytes={MIB}-", f"bytes={2 * MIB}-"]
        assert {x.get("If-Range") for x in site.requests} == {None, '"one-gzip"'}


@pytest.mark.parametrize(("first", "then"), [("gzip", "identity"), ("identity", "gzip"), ("gzip", "zstd")])
def test_another_one_in_the_middle(first: str, then: str, site: Site, device: Path) -> None:
    site.body, site.etag = CODE["gzip"](IMAGE), None
    site.faults, site.always = [labelled(first, cut=MIB)], labelled(then)
    with pytest.raises(ImageFailed, match="changed while it was read: its Content-Encoding is another"):
        bring(site.url, device)
    assert device.read_bytes()[:MIB] in (bytes(MIB), b"\xee" * MIB)  # nothing of it looks like an image


@pytest.mark.parametrize("length", [True, False])
def test_mirrors_go_on_with_the_files_own_bytes(length: bool, site: Site, device: Path) -> None:
    """In the middle of the file as published, of which an encoded mirror has no bytes by their number."""
    gone = Fault(status=404)
    with serving(IMAGE) as second, serving(IMAGE) as third:
        encoded(site, "gzip")
        site.faults, site.always = [labelled("gzip", cut=MIB)], gone
        encoded(second, "zstd")
        third.always = Fault(chunked=not length)
        bring((site.url, second.url, third.url), device)
        assert arrived(device)
        (begun,) = (int(x["Range"].removeprefix("bytes=").removesuffix("-")) for x in third.requests)
        assert 0 < begun < len(IMAGE)
        third.faults, third.always = [Fault(cut=MIB)], gone
        with pytest.raises(
            ImageFailed, match=r"its Content-Encoding is another|nothing can go on in the middle of it"
        ):
            bring((third.url, second.url), device)


def test_a_bomb_ends_at_the_volumes_limit(site: Site, device: Path) -> None:
    encoded(site, "gzip", lzma.compress(bytes(200 * MIB), preset=0))
    with pytest.raises(ImageFailed, match="holds more than the 6 MiB"):
        bring(f"{site.url}.xz", device, None)
    encoded(site, "gzip", bytes(200 * MIB))
    with pytest.raises(ImageFailed, match="holds more than the 6 MiB"):
        bring(site.url, device, None)


def test_a_cut_for_good(site: Site, device: Path) -> None:
    encoded(site, "gzip")
    site.body = site.body[:-MIB]
    with pytest.raises(ImageFailed, match="is cut off: the gzip stream does not end"):
        bring(site.url, device, None)


def test_qcow2_whose_parts_are_out_of_reach(site: Site) -> None:
    encoded(site, "gzip", b"QFI\xfb\0\0\0\3".ljust(112, b"\0"))
    with pytest.raises(ImageFailed, match="qcow2"):
        inspect(Location(site.url), SETTINGS)


def test_documents_and_archives(site: Site) -> None:
    encoded(site, "gzip", b"0" * 64 + b"  image\n")
    assert fetched(Location(site.url), SETTINGS, "a list").endswith(b"  image\n")
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:xz") as archive:
        archive.addfile(tarfile.TarInfo("etc/fstab"))
    encoded(site, "gzip", file.getvalue())
    assert first_bytes(Location(f"{site.url}.tar.xz"), SETTINGS).startswith(b"etc/fstab")
