# SPDX-License-Identifier: Apache-2.0
"""Trees on their way from a real server to volumes, with everything that can go wrong on it: archives, squashfs,
partitions of whole disks, layers of registries.

No virtual machine: the volumes are loop devices of this machine. Whatever happens, what can be told beforehand leaves
each byte of them as it was, and half a system looks like nothing at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from bareon.cmd.exit import code_of
from bareon.drivers.deploy import staging
from bareon.drivers.deploy.archive import UnpackArchive
from bareon.drivers.deploy.disk import WriteParts
from bareon.drivers.deploy.oci import UnpackLayers
from bareon.drivers.deploy.parttree import CopyParts
from bareon.drivers.deploy.squashfs import UnpackSquashfs
from bareon.drivers.deploy.wholedisk import Looked
from bareon.errors import BareonError
from bareon.model.image import Digest, Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.step import Step
from bareon.storage.filesystem import Mounted
from bareon.tools import udev
from tests_functional import disk_fault_table, layer_fault_table, tree_fault_table
from tests_functional.bench import diskimages, treeimages
from tests_functional.bench.faultyregistry import FaultyRegistry
from tests_functional.bench.httpd import Httpd
from tests_functional.bench.session import Record
from tests_functional.bench.volumes import Volumes, volumes
from tests_functional.test_archives import is_blank
from tests_functional.tree_fault_table import TreeFault

SETTINGS = {"attempts": 3, "back_off": 0.02, "longest_wait": 0.1, "idle_timeout": 2.0, "connect_timeout": 5.0}
#: Bytes, of which what is staged may take half.
MEMORY = 64 * treeimages.MIB
ACTION = "do_copyimage"
_BLKFLSBUF = 0x1261  # linux/fs.h
FAULTS = (*tree_fault_table.table(), *disk_fault_table.table(), *layer_fault_table.table())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all files."""
    place = treeimages.build(tmp_path_factory.mktemp("trees"))
    diskimages.build(tmp_path_factory.mktemp("disks"), place)
    return place


@pytest.fixture(scope="module")
def server(served: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Httpd]:
    """What serves them, with faults."""
    running = Httpd(served.joinpath, tmp_path_factory.mktemp("httpd"), certified=("127.0.0.1", "127.0.0.2"))
    running.start()
    yield running
    running.stop()


@contextmanager
def offered(fault: TreeFault, server: Httpd, place: Path) -> Iterator[tuple[Image, TransferSettings]]:
    """The image of a fault, and the settings that it is brought with."""
    settings: dict[str, object] = {**SETTINGS, **fault.settings}
    if fault.kind == "oci":
        with FaultyRegistry(fault.file, fault.wrong, server.certificate, fault.password) as registry:
            settings |= registry.settings(place)
            yield Image("a", Location(registry.url)), TransferSettings(**settings)  # type: ignore[arg-type]
            registry.check()
        return
    url = f"{server.url(server.new_scope())}/{fault.words}/{fault.file}"
    value = hashlib.sha256(server.find(fault.file).read_bytes()).hexdigest()
    digest = Digest("sha256", value if fault.digest == "right" else value[::-1]) if fault.digest else None
    image = Image("a", Location(url), digest=digest, parts=fault.parts)
    yield image, TransferSettings(**settings)  # type: ignore[arg-type]


def step(fault: TreeFault, image: Image, settings: TransferSettings, mounts: tuple[Mounted, ...]) -> Step:
    """The driver's step for the image of a fault."""
    if fault.kind == "disk":
        return CopyParts(ACTION, image, mounts, settings, looked=Looked(image, settings), parts=image.parts)
    if fault.kind == "block":
        at = {mount.point: mount for mount in mounts}
        return WriteParts(ACTION, Looked(image, settings), tuple((x, at[x.target], 512) for x in image.parts))
    unpack: dict[str, type[UnpackArchive]] = {"tar": UnpackArchive, "squashfs": UnpackSquashfs, "oci": UnpackLayers}
    return unpack[fault.kind](ACTION, image, mounts, settings)


def state(wanted: Volumes) -> dict[str, str]:
    """What is on the volumes, each byte of it."""
    found = {}
    for mount in wanted.mounts:
        with Path(mount.device).open("rb") as device:
            # What a mounted file system wrote went past the pages that were read here before.
            fcntl.ioctl(device, _BLKFLSBUF)
            found[mount.point] = hashlib.file_digest(device, "sha256").hexdigest()
    return found


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])
@pytest.mark.pain("failed-pipe")
def test_fault(
    fault: TreeFault, server: Httpd, tmp_path: Path, record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "available_memory", lambda: MEMORY)
    monkeypatch.setattr(udev, "settle", lambda: None)  # not here
    with volumes(*fault.system) as made, offered(fault, server, tmp_path) as (image, settings):
        found = step(fault, image, settings, (made.kept() if fault.kept else made).mounts)
        before = state(made)
        if fault.early:
            with pytest.raises(BareonError) as early:
                found.preflight()
            assert state(made) == before
            record_property("tree faults", judged(fault, early.value))
            return
        if fault.looked_at:
            found.preflight()
            assert state(made) == before
        if fault.failure:
            with pytest.raises(BareonError) as late:
                found.run(lambda done, total: None)
            assert is_blank(Volumes(*(x for x in made.mounts if x.point not in fault.spared)))
            after = state(made)
            assert all(after[point] == before[point] for point in fault.spared)
            record_property("tree faults", judged(fault, late.value))
            return
        outcome = found.run(lambda done, total: None)
        attempts = outcome["attempts"]
        assert isinstance(attempts, int) and attempts >= fault.connections
        with made.tree() as root:
            there = {str(x.relative_to(root)): x.read_bytes() for x in root.rglob("*") if x.is_file()}
        assert [*differences(there, treeimages.FILES)] == []
        record_property("tree faults", f"{fault.name}: arrived, {attempts} connections")


def differences(there: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> Iterator[str]:
    """A short line for each file that is another than it should be: its whole content would tell less."""
    for name in sorted(there.keys() | wanted.keys()):
        found, should = there.get(name), wanted.get(name)
        if found is None or should is None:
            yield f"{name} is {'missing' if found is None else 'too much'}"
        elif found != should:
            wrong = [at for at, pair in enumerate(zip(found, should, strict=False)) if pair[0] != pair[1]]
            places = f"{len(wrong)} differ, from {wrong[0]} to {wrong[-1]}" if wrong else "none differs"
            zeros = sum(not found[at] for at in wrong)
            yield f"{name}: {len(found)} bytes for {len(should)}, {places}, {zeros} of them are zero"


def judged(fault: TreeFault, error: BareonError) -> str:
    """The line for the table, of an error that is one line and says what it should."""
    (line,) = error.lines()
    assert "\n" not in line
    assert re.search(fault.failure or "", line), line
    assert code_of(error) == fault.code, line
    reason = re.sub(r"(https?|oci(\+http)?)://\S+?: ", "", line)
    return f"{fault.name}: {fault.code}, {reason}"
