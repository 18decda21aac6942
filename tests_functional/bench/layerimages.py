# SPDX-License-Identifier: Apache-2.0
"""Small images of registries, sound and damaged, with the tree of :mod:`tests_functional.bench.treeimages`."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from backports import zstd

from bareon.tests.registry import (
    AMD64,
    CONFIG,
    GZIP,
    INDEX,
    LAYER,
    MANIFEST,
    Entry,
    Store,
    archive,
    described,
    digest,
    text,
)
from tests_functional.bench.treeimages import FILES, MIB, ZEROS, sparse_archive

Layer = Sequence[str | Entry]
ZSTD = f"{LAYER}+zstd"
ARM = {"os": "linux", "architecture": "arm64"}


def _file(name: str) -> Entry:
    return name, tarfile.REGTYPE, "", FILES[name]


LOWER: Layer = ("etc/", "etc/gone", "usr/", "usr/gone", "hello")
UPPER: Layer = (_file("etc/os-release"), "etc/.wh.gone", _file("usr/noise"), "usr/.wh.gone", _file("hello"))
#: Hides a folder that is a volume, whose files all come again.
HIDING: Layer = (".wh.usr", ".wh.etc")
MANY: Layer = tuple((f"{number}", tarfile.REGTYPE, "", b"") for number in range(20000))
BOMB: Layer = (("zeros", tarfile.REGTYPE, "", bytes(96 * MIB)),)
fast = partial(gzip.compress, compresslevel=1)


def _of(*layers: Layer, **more: Any) -> Store:
    store = Store()
    store.image(*layers, **{"pack": fast, **more})
    return store


def _packed(*layers: tuple[bytes, bytes], kind: str = GZIP) -> Store:
    """Of layers as they are served, each with the plain archive that is in it."""
    store = Store()
    blobs = [store.put(served) for served, _ in layers]
    plain = [digest(inner) for _, inner in layers]
    config = store.put(text({**AMD64, "rootfs": {"type": "layers", "diff_ids": plain}}))
    document = {
        "schemaVersion": 2,
        "config": described(config, CONFIG),
        "layers": [described(x, kind) for x in blobs],
    }
    store.tag("latest", MANIFEST, text(document))
    return store


def _pair(plain: bytes, *behind: bytes, pack: Callable[[bytes], bytes] = fast) -> tuple[bytes, bytes]:
    return pack(plain) + b"".join(behind), plain


def _changed(change: Callable[[bytes], bytes]) -> Store:
    """The upper layer is served as something else, at its digest."""
    store = _of(LOWER, UPPER)
    name = _descriptors(store)[1]["digest"]
    store.blobs[name] = change(store.blobs[name])
    return store


def _descriptors(store: Store) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(store.manifests["latest"][1])["layers"]
    return found


def _flipped(data: bytes) -> bytes:
    """One byte of what does not compress, well behind the beginning."""
    return data[:-300000] + bytes([data[-300000] ^ 0x55]) + data[-299999:]


def _sized(size: int) -> Store:
    """A manifest that says of the upper layer that it has so many bytes."""
    store = _of(LOWER, UPPER)
    layers = _descriptors(store)
    layers[1]["size"] = size
    _of_layers(store, layers)
    return store


def _of_layers(store: Store, layers: list[dict[str, Any]]) -> None:
    document = {**json.loads(store.manifests["latest"][1]), "layers": layers}
    store.tag("latest", MANIFEST, text(document))


def _index(platform: dict[str, str], deep: int = 1) -> Store:
    """An index in an index..., with an image for such a platform."""
    store = Store()
    found, kind = store.image(UPPER, platform=platform), MANIFEST
    for _ in range(deep):
        entry = {**described(found, kind), "platform": platform}
        found, kind = store.tag("latest", INDEX, text({"mediaType": INDEX, "manifests": [entry]})), INDEX
    return store


IMAGES: dict[str, Callable[[], Store]] = {
    "layers": lambda: _of(LOWER, UPPER),
    "zstd": lambda: _of(LOWER, UPPER, pack=zstd.compress, kind=ZSTD),
    "plain": lambda: _of(LOWER, UPPER, pack=bytes, kind=LAYER),
    "index": lambda: _index(dict(AMD64)),
    "hiding": lambda: _of(LOWER, HIDING, UPPER),
    "arm": lambda: _of(UPPER, platform=ARM),
    "no platform": lambda: _index(ARM),
    "deep": lambda: _index(dict(AMD64), 4),
    "unknown manifest": lambda: _of(UPPER, manifest={"mediaType": "application/x-image"}),
    "unknown layer": lambda: _of(UPPER, kind=f"{LAYER}+lz4"),
    "foreign": lambda: _of(UPPER, kind="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
    "chart": lambda: _of(UPPER, manifest={"artifactType": "application/x.chart"}),
    "xz": lambda: _of(UPPER, pack=lambda data: b"\xfd7zXZ\0" + data),
    "flipped": lambda: _changed(_flipped),
    "shorter": lambda: _changed(lambda data: data[:-9]),
    "longer": lambda: _changed(lambda data: data + b"x"),
    "unverified": lambda: _packed(_pair(archive(*LOWER)), (fast(archive(*UPPER)), archive(*LOWER))),
    "clipped": lambda: _packed(_pair(archive(*LOWER)), (fast(archive(*UPPER))[:-9], archive(*UPPER))),
    "giant": lambda: _sized(1 << 50),
    "link": lambda: _of(["way -> /run"], ["way/planted"]),
    "way up": lambda: _of(LOWER, ["../planted"]),
    "whiteout of nothing": lambda: _of(LOWER, ["etc/.wh..."]),
    "bomb gzip": lambda: _of(LOWER, BOMB),
    "bomb zstd": lambda: _of(LOWER, BOMB, pack=zstd.compress, kind=ZSTD),
    "behind": lambda: _packed(_pair(archive(*LOWER), zstd.compress(ZEROS) * 20, pack=zstd.compress), kind=ZSTD),
    "sparse": lambda: _packed(_pair(archive(*LOWER)), _pair(sparse_archive())),
    "inodes": lambda: _of(LOWER, MANY),
}
