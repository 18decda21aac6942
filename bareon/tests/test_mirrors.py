# SPDX-License-Identifier: Apache-2.0
"""Several places of one image: where one fails the next goes on, if it is seen to be the same."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bareon.drivers.data.ironic import Ironic
from bareon.errors import ImageFailed
from bareon.model.image import Digest
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.tests.filesystems import with_ext2
from bareon.tests.imageserver import Fault, Site, serving
from bareon.transfer.failure import NotThere
from bareon.transfer.image import Written, inspect, write

MIB = 1 << 20
IMAGE = with_ext2(random.Random(3).randbytes(4 * MIB))
DIGEST = Digest("sha256", hashlib.sha256(IMAGE).hexdigest())
SETTINGS = TransferSettings(attempts=3, total_timeout=20, connect_timeout=2, idle_timeout=1, back_off=0.01)
#: Ends each connection after so many bytes, wherever it begins.
CUT = 2 * MIB + 5


@pytest.fixture
def sites() -> Iterator[tuple[Site, Site]]:
    with serving(IMAGE) as first, serving(IMAGE) as second:
        second.etag = '"another server, another tag"'
        yield first, second


def broken(site: Site) -> None:
    """Let a site die after some bytes: it refuses to go on."""
    site.faults = [Fault(cut=CUT)]
    site.always = Fault(status=500)


def bring(urls: tuple[str, ...], device: Path, digest: Digest | None = DIGEST) -> Written:
    device.write_bytes(b"\xee" * (6 * MIB))
    where = Location(urls[0], tuple(map(Location, urls[1:])))
    inspect(where, SETTINGS)
    return write(
        where, str(device), limit=6 * MIB, digest=digest, settings=SETTINGS, progress=lambda served, of: None
    )


def test_the_next_one_where_the_first_has_nothing(sites: tuple[Site, Site], tmp_path: Path) -> None:
    first, second = sites
    first.always = Fault(status=404)
    bring((first.url, second.url), tmp_path / "device", None)
    assert (tmp_path / "device").read_bytes()[: len(IMAGE)] == IMAGE
    assert all("Range" not in x for x in second.requests)


def test_a_name_that_does_not_exist_and_a_file_that_is_not_there(sites: tuple[Site, Site], tmp_path: Path) -> None:
    bring(("http://no-such.invalid/image", f"file://{tmp_path}/no-such", sites[1].url), tmp_path / "device", None)
    assert (tmp_path / "device").read_bytes()[: len(IMAGE)] == IMAGE


@pytest.mark.pain("no-resume")
def test_the_next_one_in_the_middle_of_the_file(sites: tuple[Site, Site], tmp_path: Path) -> None:
    first, second = sites
    first.before = lambda seen: Fault(status=500) if "Range" in seen else None
    first.always = Fault(cut=CUT)
    written = bring((first.url, second.url), tmp_path / "device")
    assert (tmp_path / "device").read_bytes()[: len(IMAGE)] == IMAGE
    assert [x["Range"] for x in second.requests if "Range" in x] == [f"bytes={CUT}-"]
    assert all("If-Range" not in x for x in second.requests)
    # One connection that broke, two that were refused, one of the mirror.
    assert (written.attempts, written.served) == (4, len(IMAGE))


def test_a_mirror_that_gives_no_parts(sites: tuple[Site, Site], tmp_path: Path) -> None:
    first, second = sites
    broken(first)
    first.faults.insert(0, Fault())  # for the look at its beginning
    second.ranges = False
    bring((first.url, second.url), tmp_path / "device")
    assert (tmp_path / "device").read_bytes()[: len(IMAGE)] == IMAGE


def test_a_file_of_the_ramdisk_goes_on_for_a_server(sites: tuple[Site, Site], tmp_path: Path) -> None:
    first, _ = sites
    broken(first)
    first.faults.insert(0, Fault())
    (tmp_path / "image").write_bytes(IMAGE)
    bring((first.url, f"file://{tmp_path}/image"), tmp_path / "device")
    assert (tmp_path / "device").read_bytes()[: len(IMAGE)] == IMAGE


def test_packed_images_go_on_as_well(sites: tuple[Site, Site], tmp_path: Path) -> None:
    first, second = sites
    first.body = second.body = gzip.compress(IMAGE, 1)
    broken(first)
    first.faults.insert(0, Fault())
    bring((first.url, second.url), tmp_path / "device", Digest("sha256", hashlib.sha256(first.body).hexdigest()))
    assert (tmp_path / "device").read_bytes()[: len(IMAGE)] == IMAGE


@pytest.mark.parametrize(
    ("body", "digest", "words"),
    [
        (IMAGE, None, "500.*; without a digest no mirror can go on in the middle"),
        (IMAGE[:-512], DIGEST, "500.*; http://.*/image: changed while it was read"),
        (IMAGE[:-1] + b"x", DIGEST, "its sha256 is"),
    ],
)
def test_what_cannot_be_gone_on_with(
    sites: tuple[Site, Site], tmp_path: Path, body: bytes, digest: Digest | None, words: str
) -> None:
    first, second = sites
    broken(first)
    first.faults.insert(0, Fault())
    second.body = body
    with pytest.raises(ImageFailed, match=words):
        bring((first.url, second.url), tmp_path / "device", digest)
    # Nothing that looks like a file system is left.
    assert not any((tmp_path / "device").read_bytes()[:MIB])


def test_each_is_named_where_all_fail(sites: tuple[Site, Site], tmp_path: Path) -> None:
    first, second = sites
    first.always, second.always = Fault(status=403), Fault(status=404)
    secret = f"{second.url}?temp_url_sig=s3cret"
    with pytest.raises(ImageFailed, match=r"/image: .*403.*; http://.*/image\S*: .*404") as caught:
        inspect(Location(first.url, (Location(secret),)), SETTINGS)
    assert "s3cret" not in str(caught.value) and not isinstance(caught.value, NotThere)


def test_there_is_none_where_none_of_them_has_it(sites: tuple[Site, Site]) -> None:
    for site in sites:
        site.always = Fault(status=404)
    with pytest.raises(NotThere):
        inspect(Location(sites[0].url, (Location(sites[1].url),)), SETTINGS)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ('"http://a/x"', Location("http://a/x")),
        ('["http://a/x"]', Location("http://a/x")),
        ('["http://a/x", "http://b/x"]', Location("http://a/x", (Location("http://b/x"),))),
    ],
)
def test_lists_in_the_input(given: str, url: Location) -> None:
    volume = {"type": "partition", "mount": "/", "size": "1 GiB"}
    disk = {"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": [volume]}
    text = json.dumps({"partitions": [disk], "images": [{"name": "a", "image_pull_url": json.loads(given)}]})
    assert Ironic().parse(text.encode()).images[0].url == url
