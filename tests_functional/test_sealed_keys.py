# SPDX-License-Identifier: Apache-2.0
"""Keys that are sealed by a TPM 2.0, which swtpm is here, and by tang: real ones, in containers in files.

``test_tpm.py`` has the machine that starts with such a key.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from bareon.errors import UnsuitableNode
from bareon.layout.build import build
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts
from bareon.sizes import MIB, Absolute
from bareon.step import confiding
from bareon.storage import cryptkey
from bareon.storage.cryptkey import Sealed
from bareon.storage.disk import Disk, DiskFacts, DiskId, Partition
from bareon.storage.filesystem import Filesystem, Mount
from bareon.storage.identifier import Identifiers
from bareon.storage.luks import Container, MakeContainer, OpenContainer, PlannedContainer, step
from bareon.tools import cryptsetup
from tests_functional.bench.imageserver import LOOPBACK
from tests_functional.bench.port import accepts
from tests_functional.test_luks import watched


def _answers(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + 20
    while not accepts(LOOPBACK, port):
        assert time.monotonic() < deadline, f"nobody listens at {port}"
        time.sleep(0.05)


def _ports() -> int:
    """Two free ports that follow each other; the first."""
    while True:
        with socket.create_server((LOOPBACK, 0)) as first:
            port: int = first.getsockname()[1]
            try:
                socket.create_server((LOOPBACK, port + 1)).close()
            except OSError:
                continue
            return port


@pytest.fixture
def tpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A TPM for the programs that are started."""
    port = _ports()
    (tmp_path / "tpm").mkdir()
    argv = [
        "swtpm",
        "socket",
        "--tpm2",
        "--tpmstate",
        f"dir={tmp_path}/tpm",
        "--flags",
        "not-need-init,startup-clear",
    ]
    argv += ["--server", f"type=tcp,port={port},bindaddr={LOOPBACK}"]
    argv += ["--ctrl", f"type=tcp,port={port + 1},bindaddr={LOOPBACK}"]
    monkeypatch.setenv("TPM2TOOLS_TCTI", f"swtpm:host={LOOPBACK},port={port}")
    with subprocess.Popen(argv) as running:
        try:
            _answers(port + 1)
            yield
        finally:
            running.kill()


@pytest.fixture
def tangs(tmp_path: Path) -> Iterator[list[tuple[str, str]]]:
    """Two tang servers: the URL and thumbprint of each."""
    running, found = [], []
    try:
        for number in range(2):
            keys, port = tmp_path / f"tang-{number}", _ports()
            keys.mkdir()
            subprocess.run(["/usr/libexec/tangd-keygen", keys], check=True, stdout=subprocess.DEVNULL)
            listening = f"TCP-LISTEN:{port},bind={LOOPBACK},fork,reuseaddr"
            running.append(subprocess.Popen(["socat", listening, f"EXEC:/usr/libexec/tangd {keys}"]))
            _answers(port)
            said = subprocess.run(["tang-show-keys", str(port)], check=True, capture_output=True, text=True)
            found.append((f"http://{LOOPBACK}:{port}", said.stdout.split()[0]))
        yield found
    finally:
        for process in running:
            process.kill()
            process.wait()


def _planned(key: Sealed, file: Path) -> PlannedContainer:
    """A container in a file."""
    file.touch()
    os.truncate(file, 24 * MIB)
    fs = Filesystem("ext4", (Mount("/", images=("a",)),), images=("a",))
    wanted = Container("root", key, fs, recovery=True)
    disk = Disk(DiskId("name", "vda"), None, (Partition(Absolute(24 * MIB), wanted),))
    node = NodeFacts("bios", (DiskFacts("/dev/vda", 4096 * MIB),))
    layout = build(Deployment("clean", (disk,)), node, Identifiers(UUID(int=1)))
    (found,) = layout.structures()
    assert isinstance(found, PlannedContainer)
    return replace(found, device=str(file))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The keys by which containers were opened: this kernel has no device mapper."""
    keys: list[bytes] = []
    monkeypatch.setattr(step, "_open", lambda container, key, **_: keys.append(key))
    return keys


def test_the_tpm_gives_the_key_while_its_registers_are_the_same(
    tpm: None, opened: list[bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "container"
    container = _planned(cryptkey.of_tpm([23]), file)
    shown: list[str] = []
    with watched() as seen, caplog.at_level(logging.DEBUG), confiding(shown.append):
        made = MakeContainer("x", container)
        made.preflight()
        made.run(lambda *_: None)
        kept = OpenContainer("x", container)
        assert list(kept.preflight()) == []
        kept.run(lambda *_: None)
    key, again = opened
    assert key == again and cryptsetup.fits(str(file), key)
    by_clevis = subprocess.run(["clevis", "luks", "pass", "-d", file, "-s", "0"], check=True, capture_output=True)
    assert by_clevis.stdout == key, "whoever starts the system has clevis open it"
    recovery = shown[0].splitlines()[-1].encode()
    assert any(b"clevis-decrypt-tpm2" in x for x in seen), "nobody looked"
    for secret in (key, recovery):
        assert not [x for x in seen if secret in x]
        assert secret.decode() not in caplog.text
    subprocess.run(["tpm2_pcrextend", f"23:sha256={'0' * 63}1"], check=True)
    with pytest.raises(UnsuitableNode, match="a key that the TPM seals to PCR 23 cannot be had"):
        list(kept.preflight())
    assert cryptsetup.fits(str(file), recovery)


def test_a_node_without_a_tpm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPM2TOOLS_TCTI", f"swtpm:host={LOOPBACK},port={_ports()}")
    cryptkey.try_out.cache_clear()
    made = MakeContainer("x", _planned(cryptkey.of_tpm([7]), tmp_path / "x"))
    with (
        confiding(lambda _: None),
        pytest.raises(UnsuitableNode, match="a key that the TPM seals to PCR 7 cannot be had: clevis"),
    ):
        made.preflight()


def test_tang_gives_the_key_to_whom_the_server_is_known(
    tangs: list[tuple[str, str]], opened: list[bytes], tmp_path: Path
) -> None:
    (_, right), (other, _) = tangs
    for number, key in enumerate((cryptkey.of_tang(tangs[:1], 1), cryptkey.of_tang(tangs, 2))):
        cryptkey.try_out(key)
        file = tmp_path / f"container-{number}"
        with confiding(lambda _: None):
            MakeContainer("x", _planned(key, file)).run(lambda *_: None)
        assert cryptsetup.fits(str(file), opened[-1])
    with pytest.raises(UnsuitableNode, match=r"a key that tang on .* seals cannot be had"):
        cryptkey.try_out(cryptkey.of_tang([(other, right)], 1))
