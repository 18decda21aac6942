# SPDX-License-Identifier: Apache-2.0
"""OCI image layouts in a file: told by their content, read where they lie, and believed in nothing."""

from __future__ import annotations

import bz2
import gzip
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from bareon.drivers.deploy.archive import Archive
from bareon.drivers.deploy.ocilayout import OciLayout
from bareon.errors import ImageFailed
from bareon.model.image import Digest
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.tests.imageserver import serving
from bareon.tests.ocilayout import FOLDERS, MARK, blobs, disordered, documents, index, layout, packed
from bareon.tests.registry import AMD64, DIR, HARD, INDEX, MANIFEST, REG, SYM, Entry, Store, archive, digest, text
from bareon.transfer.layoutstore import find, within
from bareon.transfer.oci import bring
from bareon.transfer.ocilayout import refusing
from bareon.transfer.tarstream import Walk

SETTINGS = TransferSettings(attempts=2, back_off=0.01)
LIMIT = 1 << 20
THREE = (["etc/", "etc/a"], ["usr/", "etc/.wh.a"], ["var/"])
NAMES = ["etc", "etc/a", "usr", "etc/.wh.a", "var"]


def three() -> Store:
    store = Store()
    store.image(*THREE)
    return store


def names(file: bytes) -> list[str]:
    """The members of all layers, in their order, of a layout that was staged."""
    place = Location("file:///layout")
    descriptor = os.memfd_create("layout")
    try:
        os.write(descriptor, file)
        found = find(Location(f"file:///proc/{os.getpid()}/fd/{descriptor}"), SETTINGS, LIMIT)
        store = within(place, descriptor)
        seen: list[str] = []
        brought = bring(
            place,
            found,
            lambda deadline: store.opened,
            lambda number: Walk(lambda member: not seen.append(member.path)),
            None,
            settings=SETTINGS,
            limit=LIMIT,
            progress=lambda done, total: None,
        )
        assert (brought.served, brought.digest) == (found.size, f"sha256:{found.digest.value}")
    finally:
        os.close(descriptor)
    return seen


@pytest.mark.parametrize("made", [layout, disordered])
def test_the_layers_of_a_layout_come_in_their_order(made: Callable[[Store], bytes]) -> None:
    assert names(made(three())) == NAMES


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("made", [layout, disordered])
def test_it_is_found_however_it_is_served(
    made: Callable[[Store], bytes], ranges: bool, pack: Callable[[bytes], bytes]
) -> None:
    store = Store()
    manifest = store.image(*THREE)
    store.put(random.Random(1).randbytes(300_000))  # what no document refers to, and is not asked for
    with serving(pack(made(store))) as site:
        site.ranges = ranges
        found = find(Location(site.url), SETTINGS, LIMIT)
        assert found.digest == Digest("sha256", digest(manifest)[7:])
        assert len(found.layers) == len(THREE)


BLOBS = blobs(three())
TREE = (("etc", DIR, "", b""), ("etc/index.json", REG, "", b"{}"), ("etc/oci-layout", REG, "", MARK))


@pytest.mark.parametrize(
    ("members", "is_layout"),
    [
        ([*FOLDERS, *BLOBS[:1]], True),
        ([("oci-layout", REG, "", MARK)], True),
        (TREE, False),
        ([("index.json", REG, "", b"{}"), ("blobs/sha256/ab", REG, "", b"")], False),
        ([("oci-layout", DIR, "", b""), *FOLDERS], False),
        ([], False),
    ],
)
def test_it_is_told_by_its_mark_or_a_blob(members: list[Entry], is_layout: bool) -> None:
    head = packed(members)[: 64 * 1024]
    assert OciLayout().recognises(head) is is_layout
    assert Archive().recognises(head) is (not is_layout and bool(members))


def test_a_layout_that_did_not_show_is_no_tree() -> None:
    def walked(*members: Entry) -> int:
        walk = Walk(refusing(lambda member: True))
        for _ in walk.feed(packed(members, before="./")):
            pass
        return walk.members

    assert walked(*TREE) == len(TREE)
    assert walked(("oci-layout", REG, "", MARK), *TREE) == len(TREE) + 1
    with pytest.raises(ImageFailed, match="is a layout of an OCI image, which did not show at its beginning"):
        walked(("a", REG, "", b""), *documents(Store()))


def made(*spoil: Entry, store: Store | None = None, without: str = "-", **more: object) -> bytes:
    """A layout with other members in the place of its own, or besides them."""
    store = store or three()
    other = {x[0] for x in spoil}
    own = [
        x for x in (*blobs(store), *documents(store, **more)) if x[0] not in other and not x[0].startswith(without)
    ]
    return packed([*FOLDERS, *own, *spoil])


def several() -> Store:
    store = three()
    store.image(["other"], tag="second")
    return store


def foreign() -> Store:
    store = Store()
    store.image(["a"], platform={**AMD64, "architecture": "vax"})
    return store


def nested(depth: int) -> Store:
    """Indexes in each other."""
    store = Store()
    kind, data = MANIFEST, store.image(["a"])
    for _ in range(depth):
        entry = {"mediaType": kind, "digest": digest(data), "size": len(data), "platform": AMD64}
        del store.manifests["latest"]
        kind, data = INDEX, store.tag("latest", INDEX, text({"schemaVersion": 2, "manifests": [entry]}))
    return store


LAYER = f"blobs/{digest(next(iter(three().blobs.values()))).replace(':', '/')}"
OF_MANIFEST = f"blobs/{digest(three().manifests['latest'][1]).replace(':', '/')}"


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (made(without="oci-layout"), "is no layout of an OCI image: it has no 'oci-layout' at its top"),
        (made(without="index.json"), "it has no 'index.json' at its top"),
        (made(("oci-layout", REG, "", b'{"imageLayoutVersion": "2.0"}')), "of a version that is not known"),
        (made(("oci-layout", REG, "", b"1")), "has a document that cannot be read"),
        (made(("index.json", REG, "", b"{")), "has a document that cannot be read"),
        (made(("oci-layout", SYM, "/etc/passwd", b"")), "has 'oci-layout' twice, or as something else"),
        (made((LAYER, HARD, "oci-layout", b"")), f"has '{LAYER}' twice, or as something else"),
        (packed([*BLOBS, *BLOBS[:1], *documents(three())]), f"has '{LAYER}' twice"),
        (made(without=LAYER), f"has no {LAYER}: it is not all of an image"),
        (made((LAYER, REG, "", b"short")), f"has 5 bytes as {LAYER}, "),
        (made((OF_MANIFEST, REG, "", b"{}")), "has a document that is not what its name says"),
        (made((OF_MANIFEST, REG, "", b"{" + bytes(4 << 20))), "a document: at most"),
        (made(store=several()), r"holds several images, .*\(latest, second\): save one alone"),
        (made(manifests=[]), "has nothing for linux/"),
        (made(store=foreign()), "is for linux/vax, and this machine is"),
        (made(store=nested(3)), "has an index in an index in an index"),
        (made().rstrip(b"\0"), "is cut off"),
        (made()[:9000], "is cut off"),
        (packed([("a", REG, "", b"")] * 9000), "has more than 8192 members"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, lambda plain: gzip.compress(plain, 1)], ids=["raw", "gzip"])
def test_what_is_no_layout_that_can_be_brought(
    file: bytes, says: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(pack(file))
    with pytest.raises(ImageFailed, match=says) as caught:
        find(Location((tmp_path / "a").as_uri()), SETTINGS, 16 << 20)
    assert len(caught.value.lines()) == 1


def test_two_names_of_one_image_are_one() -> None:
    store = three()
    store.image(*THREE, tag="second")
    assert len(index(store)["manifests"]) == 2
    assert names(layout(store)) == NAMES
    assert names(layout(nested(1))) == names(layout(nested(2))) == ["a"]


def test_a_layer_that_is_no_archive_shows_before_where_there_are_parts(tmp_path: Path) -> None:
    store = Store()
    store.image(["a"], pack=lambda plain: b"no archive")
    (tmp_path / "a").write_bytes(layout(store))
    with pytest.raises(ImageFailed, match=r"layer 1 of 1 .*is a text"):
        find(Location((tmp_path / "a").as_uri()), SETTINGS, LIMIT)


def test_a_layer_that_is_another_is_found_out() -> None:
    store = three()
    blob = next(iter(store.blobs))
    other = gzip.compress(archive("etc/", "etc/b"))
    store.blobs[blob] = other.ljust(len(store.blobs[blob]), b"\0")[: len(store.blobs[blob])]
    with pytest.raises(ImageFailed, match="layer 1 of 3 "):
        names(layout(store))


def test_what_has_no_end_ends_at_the_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(gzip.compress(made(("blobs/large", REG, "", bytes(2 * LIMIT)))))
    with pytest.raises(ImageFailed, match="holds more than the 1 MiB of all volumes"):
        find(Location((tmp_path / "a").as_uri()), SETTINGS, LIMIT)
