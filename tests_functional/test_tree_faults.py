# SPDX-License-Identifier: Apache-2.0
"""Trees in one file on their way from a real server to volumes, with everything that can go wrong on it.

No virtual machine: the volumes are loop devices of this machine. Whatever happens, what can be told beforehand leaves
each byte of them as it was, and half a system looks like nothing at all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bareon.drivers.deploy import staging
from bareon.drivers.deploy.archive import UnpackArchive
from bareon.drivers.deploy.squashfs import UnpackSquashfs
from bareon.errors import ActionFailed, BareonError, ImageFailed
from bareon.model.image import Digest, Image
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from tests_functional.bench import treeimages
from tests_functional.bench.httpd import Httpd
from tests_functional.bench.session import Record
from tests_functional.bench.volumes import Volumes, volumes
from tests_functional.test_archives import is_blank
from tests_functional.tree_fault_table import TreeFault, table

SETTINGS = {"attempts": 3, "back_off": 0.02, "longest_wait": 0.1, "idle_timeout": 2.0, "connect_timeout": 5.0}
SYSTEM = ("/", "ext4", 32), ("/usr", "ext4", 16)
#: Bytes, of which a squashfs may take half.
MEMORY = 64 * treeimages.MIB
STEPS = {"tar": UnpackArchive, "squashfs": UnpackSquashfs}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all files."""
    return treeimages.build(tmp_path_factory.mktemp("trees"))


@pytest.fixture(scope="module")
def server(served: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Httpd]:
    """What serves them, with faults."""
    running = Httpd(served.joinpath, tmp_path_factory.mktemp("httpd"))
    running.start()
    yield running
    running.stop()


def step(fault: TreeFault, server: Httpd, content: bytes, wanted: Volumes) -> UnpackArchive:
    """The driver's step for the file of a fault."""
    url = f"{server.url(server.new_scope())}/{fault.words}/{fault.file}"
    value = hashlib.sha256(content).hexdigest()
    digest = Digest("sha256", value if fault.digest == "right" else value[::-1]) if fault.digest else None
    settings = TransferSettings(**SETTINGS | dict(fault.settings))  # type: ignore[arg-type]
    return STEPS[fault.kind]("do_copyimage", Image("a", Location(url), digest=digest), wanted.mounts, settings)


def state(wanted: Volumes) -> list[str]:
    """What is on the volumes, each byte of it."""
    found = []
    for mount in wanted.mounts:
        with Path(mount.device).open("rb") as device:
            found.append(hashlib.file_digest(device, "sha256").hexdigest())
    return found


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in table()])
def test_fault(
    fault: TreeFault, server: Httpd, served: Path, record_property: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "available_memory", lambda: MEMORY)
    with volumes(*SYSTEM) as made:
        found = step(fault, server, (served / fault.file).read_bytes(), made)
        before = state(made)
        if fault.early:
            with pytest.raises(ImageFailed) as early:
                found.preflight()
            assert state(made) == before
            record_property("tree faults", judged(fault, early.value))
            return
        if fault.looked_at:
            found.preflight()
            assert state(made) == before
        if fault.failure:
            with pytest.raises((ImageFailed, ActionFailed)) as late:
                found.run(lambda done, total: None)
            assert is_blank(made)
            record_property("tree faults", judged(fault, late.value))
            return
        outcome = found.run(lambda done, total: None)
        attempts = outcome["attempts"]
        assert isinstance(attempts, int) and attempts >= fault.connections
        with made.tree() as root:
            assert {name: (root / name).read_bytes() for name in treeimages.FILES} == treeimages.FILES
        record_property("tree faults", f"{fault.name}: arrived, {attempts} connections")


def judged(fault: TreeFault, error: BareonError) -> str:
    """The line for the table, of an error that is one line and says what it should."""
    (line,) = error.lines()
    assert "\n" not in line
    assert re.search(fault.failure or "", line), line
    reason = re.sub(r"https?://\S+?: ", "", line)
    return f"{fault.name}: {reason}"
