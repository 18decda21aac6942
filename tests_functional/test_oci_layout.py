# SPDX-License-Identifier: Apache-2.0
"""OCI image layouts in a file, brought onto real file systems by the deploy driver's step.

No virtual machine: the volumes are loop devices of this machine.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from bareon.drivers.deploy import staging
from bareon.drivers.deploy.archive import UnpackArchive
from bareon.drivers.deploy.ocilayout import UnpackOciLayout
from bareon.errors import ActionFailed, BareonError, ImageFailed, UnsuitableNode
from bareon.model.image import Digest, Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.tests.ocilayout import MARK, disordered, layout, packed
from bareon.tests.registry import REG, Entry, Store, described, text
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.registry import MANIFEST, Registry
from tests_functional.bench.volumes import MIB, Volumes, volumes
from tests_functional.test_archives import entries, is_blank
from tests_functional.test_oci import brought as brought_from_registry
from tests_functional.test_oci import push

SYSTEM = ("/", "ext4", 96), ("/usr", "ext4", 64), ("/var", "xfs", 320)
LAYERS: tuple[Sequence[str | Entry], ...] = (
    ["usr/", "usr/a", "usr/lib/x", "var/", "var/log/", "var/log/b", "bin -> usr/bin", "boot = usr/a"],
    ["usr/.wh.a", "usr/lib/.wh..wh..opq", "usr/lib/y", ".wh.var", "bin/", "bin/sh"],
    ["var/c", ("usr/lib", b"0", "", b"a file")],
)
FOUND = {"usr", "usr/lib", "var", "var/c", "bin", "bin/sh", "boot"}


def step(file: Path, wanted: Volumes, digest: str | None = None) -> UnpackOciLayout:
    """The driver's step for a layout."""
    image = Image("a", Location(file.as_uri()), digest=Digest("sha256", digest) if digest else None)
    return UnpackOciLayout("do_copyimage", image, wanted.mounts, TransferSettings())


def made(place: Path, *layers: Sequence[str | Entry], pack: Callable[[bytes], bytes] = bytes) -> Path:
    store = Store()
    store.image(*layers)
    place.write_bytes(pack(layout(store)))
    return place


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["in memory", "on a volume"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_its_layers_are_spread_over_volumes(
    memory: int, pack: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "available_memory", lambda: memory)
    file = made(tmp_path / "layout", *LAYERS, pack=pack)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with volumes(*SYSTEM) as wanted:
        found = step(file, wanted, digest)
        found.preflight()
        outcome = found.run(lambda done, total: None)
        assert (outcome["layers"], outcome["digest"]) == (3, digest)
        assert outcome["form"] == ("oci-layout" if pack is bytes else "oci-layout, gzip")
        assert outcome["served_bytes"] == file.stat().st_size
        with wanted.tree() as root:
            there = {str(x.relative_to(root)) for x in root.rglob("*") if x.name != "lost+found"}
            assert (root / "boot").read_text() == "usr/a"
    assert there == FOUND


def exported(registry: Registry, name: str, place: Path) -> Path:
    """All that a registry has, as a layout with one of its images."""
    storage = registry.place / "storage/docker/registry/v2"
    data = {x.parent.name: x.read_bytes() for x in (storage / "blobs/sha256").glob("*/*/data")}
    tag = (storage / "repositories" / name / "_manifests/tags/latest/current/link").read_text().partition(":")[2]
    listed: Mapping[str, object] = {"schemaVersion": 2, "manifests": [described(data[tag], MANIFEST)]}
    blobs = [(f"blobs/sha256/{x}", REG, "", content) for x, content in data.items()]
    place.write_bytes(packed([*blobs, ("index.json", REG, "", text(listed)), ("oci-layout", REG, "", MARK)]))
    return place


def test_it_is_the_same_as_from_a_registry(tmp_path: Path) -> None:
    registry = Registry(SCRATCH / "exported")
    registry.start()
    try:
        url = push(registry, tmp_path, *LAYERS)
        file = exported(registry, "made", tmp_path / "layout")
        with volumes(*SYSTEM) as first, volumes(*SYSTEM) as second:
            outcome = brought_from_registry(url, first)
            found = step(file, second)
            found.preflight()
            assert found.run(lambda done, total: None)["digest"] == outcome["digest"]
            with first.tree() as root:
                wanted = {path: x[:5] + x[6:] for path, x in entries(root).items()}
            with second.tree() as root:
                assert {path: x[:5] + x[6:] for path, x in entries(root).items()} == wanted
    finally:
        registry.stop()


def failed(found: Callable[[Volumes], UnpackArchive], kind: type[BareonError], *wanted: tuple[str, str, int]) -> str:
    """What the step says when it fails as it runs; nothing is left then that looks like a system."""
    with volumes(*wanted) as there:
        with pytest.raises(kind) as caught:
            found(there).run(lambda done, total: None)
        assert is_blank(there)
    return str(caught.value)


def test_what_is_not_verified_is_no_system(tmp_path: Path) -> None:
    file = made(tmp_path / "layout", *LAYERS)
    assert "its sha256 is" in failed(lambda there: step(file, there, "00" * 32), ImageFailed, *SYSTEM)
    lies = made(tmp_path / "lies", ["etc/", "link -> /run"], ["link/planted"])
    assert "no link is followed" in failed(lambda there: step(lies, there), ImageFailed, *SYSTEM)
    large = made(tmp_path / "large", ["a"], [("b", REG, "", bytes(64 * MIB))])
    assert "does not fit" in failed(lambda there: step(large, there), ActionFailed, ("/", "ext4", 32))


def test_a_layout_that_was_taken_for_a_tree_is_none(tmp_path: Path) -> None:
    store = Store()
    store.image(["a"])
    file = tmp_path / "layout"
    hidden = [("first", REG, "", bytes(1 << 20))]
    file.write_bytes(packed(hidden)[: (1 << 20) + 1536] + disordered(store))
    with tarfile.open(file) as archive:
        assert archive.getnames()[0] == "first"
    image = Image("a", Location(file.as_uri()))

    def tree(there: Volumes) -> UnpackArchive:
        return UnpackArchive("do_copyimage", image, there.mounts, TransferSettings())

    assert "which did not show at its beginning" in failed(tree, ImageFailed, ("/", "ext4", 32))
    file.write_bytes(layout(store))
    with volumes(("/", "ext4", 32)) as there, pytest.raises(ImageFailed, match="it holds a layout of an OCI image"):
        tree(there).preflight()


@pytest.mark.pain("ramdisk-is-full")
def test_what_is_kept_is_read_through_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = made(tmp_path / "layout", ["etc/", "etc/a", "etc/mine"], ["etc/", "etc/.wh.mine", "etc/b"])
    with volumes(("/", "ext4", 32)) as there:
        with there.tree() as root:
            (root / "etc").mkdir()
            (root / "etc/mine").write_text(json.dumps("mine"))
        found = step(file, there.kept())
        with monkeypatch.context() as patched:
            patched.setattr(staging, "available_memory", lambda: 0)
            with pytest.raises(UnsuitableNode, match="is to be read whole before it changes what is kept"):
                step(file, there.kept()).preflight()
        found.preflight()
        with there.tree() as root:
            assert not (root / "etc/a").exists()
        found.run(lambda done, total: None)
        with there.tree() as root:
            assert {x.name for x in (root / "etc").iterdir()} == {"a", "b", "mine"}
            assert json.loads((root / "etc/mine").read_text()) == "mine"
