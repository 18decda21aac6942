# SPDX-License-Identifier: Apache-2.0
"""OCI image layouts in a file, made in memory of what a registry would have."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

from bareon.tests.registry import DIR, INDEX, REG, Entry, Store, described, text

REF = "org.opencontainers.image.ref.name"
MARK = b'{"imageLayoutVersion": "1.0.0"}'
FOLDERS = [("blobs", DIR, "", b""), ("blobs/sha256", DIR, "", b"")]


def blobs(store: Store) -> list[Entry]:
    manifests = {name: data for name, (_, data) in store.manifests.items() if name.startswith("sha256:")}
    return [(f"blobs/{x.replace(':', '/')}", REG, "", data) for x, data in {**store.blobs, **manifests}.items()]


def index(store: Store, **more: Any) -> Mapping[str, Any]:
    """An index of all that has a tag."""
    tagged = {name: x for name, x in store.manifests.items() if not name.startswith("sha256:")}
    entries = [{**described(data, kind), "annotations": {REF: name}} for name, (kind, data) in tagged.items()]
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries, **more}


def documents(store: Store, **more: Any) -> list[Entry]:
    return [("index.json", REG, "", text(index(store, **more))), ("oci-layout", REG, "", MARK)]


def packed(members: Sequence[Entry], kind: int = tarfile.PAX_FORMAT, before: str = "") -> bytes:
    """An archive of such members, each with its owner; ``before`` stands in front of their names."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as made:
        for path, type_, link, content in members:
            info = tarfile.TarInfo(before + path)
            info.type, info.linkname, info.size, info.mtime = type_, link, len(content), 1700000000
            # A part of a second makes a header of its own, as other programs than this write them.
            info.pax_headers = {"mtime": "1700000000.5"}
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def layout(store: Store) -> bytes:
    """A layout as ``docker save`` writes it: the blobs first."""
    return packed([*FOLDERS, *blobs(store), *documents(store), ("manifest.json", REG, "", b"[]")])


def disordered(store: Store) -> bytes:
    """A layout as tar packs a folder of it, by GNU's format."""
    mark, listed = documents(store)
    return packed([(".", DIR, "", b""), mark, *FOLDERS, *blobs(store), listed], tarfile.GNU_FORMAT, "./")
