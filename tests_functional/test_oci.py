# SPDX-License-Identifier: Apache-2.0
"""Images of a real registry, brought onto real file systems by the deploy driver's step.

No virtual machine: the volumes are loop devices of this machine.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.drivers.deploy.oci import UnpackLayers
from bareon.errors import ActionFailed, BareonError, ImageFailed, UnsuitableNode
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.step import Outcome
from bareon.tests.registry import Entry, archive
from building.process import run
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.httpd.certificate import make_certificate
from tests_functional.bench.imageserver import LOOPBACK
from tests_functional.bench.registry import AMD64, INDEX, MANIFEST, PASSWORD, USER, Packed, Registry
from tests_functional.bench.volumes import MIB, Volumes, volumes
from tests_functional.test_archives import ATTRIBUTES, entries, is_blank, source

SETTINGS = TransferSettings(attempts=3, back_off=0.05, longest_wait=0.2, idle_timeout=5.0)
SYSTEM = ("/", "ext4", 96), ("/usr", "ext4", 64), ("/var", "xfs", 320)


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A registry that asks for no account, by plain HTTP."""
    running = Registry(SCRATCH / "open")
    try:
        running.start()
        yield running
    finally:
        running.stop()


def step(url: str, wanted: Volumes, settings: TransferSettings = SETTINGS) -> UnpackLayers:
    return UnpackLayers("do_copyimage", Image("a", Location(url)), wanted.mounts, settings)


def brought(url: str, wanted: Volumes, settings: TransferSettings = SETTINGS) -> Outcome:
    """What comes of the step, as the executor carries it out."""
    found = step(url, wanted, settings)
    found.preflight()
    return found.run(lambda done, total: None)


def layer(place: Path, number: int, data: bytes) -> Packed:
    """A layer in a file, each in another form."""
    file = place / f"layer{number}-{hashlib.sha256(data).hexdigest()[:12]}"
    packing = ("+gzip", "+zstd", "")[number % 3]
    file.write_bytes(gzip.compress(data, 1) if packing == "+gzip" else data)
    if packing == "+zstd":
        run(["zstd", "--quiet", "--rm", "-3", file, "-o", f"{file}.zst"], timeout=60)
        file = file.with_name(f"{file.name}.zst")
    return Packed(file, packing, f"sha256:{hashlib.sha256(data).hexdigest()}")


def push(registry: Registry, place: Path, *layers: Sequence[str | Entry], tag: str = "latest") -> str:
    """Put an image of such members there; its URL."""
    registry.push("made", tag, [layer(place, number, archive(*x)) for number, x in enumerate(layers)])
    return registry.url(LOOPBACK, f"made:{tag}")


def test_a_tree_arrives_as_it_was_over_three_layers(registry: Registry, tmp_path: Path) -> None:
    with source() as tree, volumes(*SYSTEM) as made:
        wanted = entries(tree)
        packed = tmp_path / "whole.tar"
        options = ("--sparse", "--numeric-owner", "--exclude=./lost+found", *ATTRIBUTES)
        run(["tar", *options, "-C", tree, "-cf", packed, "."], timeout=60)
        lower = archive("etc/", "etc/gone", "usr/old/", "usr/old/a", "var/", "d -> usr", "opt/", "opt/x", "opt/y/z")
        upper = archive("usr/.wh.old", ".wh.etc", "opt/", "opt/.wh..wh..opq", "opt/new")
        registry.push(
            "whole", "1", [layer(tmp_path, i, x) for i, x in enumerate((lower, packed.read_bytes(), upper))]
        )
        outcome = brought(registry.url(LOOPBACK, "whole:1"), made)
        assert (outcome["layers"], outcome["hard links that became copies"]) == (3, "2")
        with made.tree() as root:
            found = entries(root)
            assert (root / "d/f").samefile(root / "d/hard")
            assert (root / "opt/new").read_text() == "opt/new"
    for path in (b"opt", b"opt/new"):
        del found[path]
    for path in (b".", b"usr", b"var"):  # the time of a file system's top folder is that of its lost+found
        wanted[path], found[path] = (x[path][:5] + x[path][6:] for x in (wanted, found))
    assert found == wanted


def test_what_is_hidden_on_other_volumes_goes(registry: Registry, tmp_path: Path) -> None:
    layers: tuple[Sequence[str | Entry], ...] = (
        ["usr/", "usr/a", "usr/lib/x", "var/", "var/log/", "var/log/b", "bin -> usr/bin", "boot = usr/a"],
        ["usr/.wh.a", "usr/lib/.wh..wh..opq", "usr/lib/y", ".wh.var", "bin/", "bin/sh"],
        ["var/c", ("usr/lib", b"0", "", b"a file")],
    )
    with volumes(*SYSTEM) as made:
        outcome = brought(push(registry, tmp_path, *layers, tag="hidden"), made)
        assert outcome["hard links that became copies"] == "1"
        with made.tree() as root:
            found = {str(x.relative_to(root)) for x in root.rglob("*") if x.name != "lost+found"}
            assert (root / "boot").read_text() == "usr/a"
            assert (root / "usr/lib").read_text() == "a file"
    assert found == {"usr", "usr/lib", "var", "var/c", "bin", "bin/sh", "boot"}


def test_an_account_and_tls(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, [LOOPBACK, "localhost"])
    accounts = tmp_path / "auth.json"
    settings = replace(SETTINGS, ca_file=str(certificate.public), auth_file=str(accounts))
    registry = Registry(SCRATCH / "closed", certificate=certificate)
    registry.start()
    try:
        url = push(registry, tmp_path, ["etc/", "etc/a"], ["etc/.wh.a", "etc/b"])
        assert url.startswith("oci://")
        for password, kind in ((None, UnsuitableNode), ("wrong", ImageFailed), (PASSWORD, None)):
            packed = base64.b64encode(f"{USER}:{password}".encode()).decode()
            known = {f"{LOOPBACK}:{registry.port}": {"auth": packed}} if password else {}
            accounts.write_text(json.dumps({"auths": known}))
            with volumes(("/", "ext4", 32)) as made:
                if kind is not None:
                    with pytest.raises(kind, match=r"account|credentials"):
                        step(url, made, settings).preflight()
                    continue
                brought(url, made, settings)
                with made.tree() as root:
                    assert [x.name for x in (root / "etc").iterdir()] == ["b"]
    finally:
        registry.stop()


def test_of_several_platforms_the_machines_own(registry: Registry, tmp_path: Path) -> None:
    digests = {}
    for name, platform in (("arm", {"os": "linux", "architecture": "arm64"}), ("amd", AMD64)):
        packed = [layer(tmp_path, 0, archive(name))]
        digests[name] = registry.push("many", name, packed, platform=platform), platform
    sizes = {name: len(_manifest(registry, f"many/manifests/{name}")) for name in digests}
    entries = [
        {"mediaType": MANIFEST, "digest": found, "size": sizes[name], "platform": platform}
        for name, (found, platform) in digests.items()
    ]
    registry.tag("many", "latest", INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
    with volumes(("/", "ext4", 32)) as made:
        brought(registry.url(LOOPBACK, "many"), made)
        with made.tree() as root:
            assert (root / "amd").is_file()
    with volumes(("/", "ext4", 32)) as made, pytest.raises(ImageFailed, match="is for linux/arm64, and this machine"):
        step(registry.url(LOOPBACK, f"many@{digests['arm'][0]}"), made).preflight()


def _manifest(registry: Registry, path: str) -> bytes:
    place = registry.place / "storage/docker/registry/v2"
    name, _, tag = path.partition("/manifests/")
    link = (place / "repositories" / name / "_manifests/tags" / tag / "current/link").read_text()
    algorithm, _, value = link.partition(":")
    return (place / "blobs" / algorithm / value[:2] / value / "data").read_bytes()


def failed(url: str, kind: type[BareonError], *wanted: tuple[str, str, int]) -> str:
    """What the step says when it fails; nothing is left then that looks like a system."""
    with volumes(*wanted) as made:
        with pytest.raises(kind) as caught:
            brought(url, made)
        assert is_blank(made)
    return str(caught.value)


def test_what_is_not_verified_is_no_system(registry: Registry, tmp_path: Path) -> None:
    good, other = (layer(tmp_path, 0, archive(x)) for x in ("a", "b"))
    registry.push("wrong", "latest", [good, Packed(other.file, other.packing, good.plain)])
    said = failed(registry.url(LOOPBACK, "wrong"), ImageFailed, *SYSTEM)
    assert "layer 2 of 2" in said
    assert "decoded, its sha256 is" in said
    url = push(registry, tmp_path, ["etc/", "link -> /run"], ["link/planted"], tag="link")
    assert "no link is followed" in failed(url, ImageFailed, *SYSTEM)
    url = push(registry, tmp_path, ["a"], [("b", b"0", "", bytes(64 * MIB))], tag="large")
    assert "does not fit" in failed(url, ActionFailed, ("/", "ext4", 32))


def test_on_what_is_kept_nobodys_files_go(registry: Registry, tmp_path: Path) -> None:
    layers: tuple[Sequence[str | Entry], ...] = (
        [
            (".", b"5", "", b""),
            "etc/",
            "etc/mine",
            "etc/old",
            "srv/",
            "srv/theirs",
            "usr/",
            "usr/mine",
            "usr/a",
            "var/",
        ],
        ["etc/", "etc/.wh.old", "etc/.wh.mine", ".wh.srv", "usr/", "usr/.wh..wh..opq", "usr/b"],
    )
    url = push(registry, tmp_path, *layers, tag="kept")
    with volumes(*SYSTEM) as made:
        with made.tree() as root:
            for name in ("etc/mine", "srv/mine", "usr/mine", "usr/other"):
                (root / name).parent.mkdir(exist_ok=True)
                (root / name).write_text("mine")
        found = step(url, made.kept())
        found.preflight()
        with made.tree() as root:
            assert not (root / "etc/old").exists()
        found.run(lambda done, total: None)
        with made.tree() as root:
            there = {str(x.relative_to(root)) for x in root.rglob("*") if x.is_file()}
            assert there == {"etc/mine", "srv/mine", "usr/mine", "usr/other", "usr/b"}
            assert {(root / x).read_text() for x in there - {"usr/b"}} == {"mine"}
        wrong = [layer(tmp_path, 0, archive("etc/", "etc/mine")), layer(tmp_path, 3, archive("x"))]
        wrong[1] = Packed(wrong[1].file, wrong[1].packing, wrong[0].plain)
        registry.push("made", "unkept", wrong)
        with pytest.raises(ImageFailed, match="decoded, its sha256 is"):
            step(registry.url(LOOPBACK, "made:unkept"), made.kept()).preflight()
        with made.tree() as root:
            assert (root / "etc/mine").read_text() == "mine"
