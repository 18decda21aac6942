# SPDX-License-Identifier: Apache-2.0
"""The bundle of a failed run: everything is in it but secrets, and it never gets in the way."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from bareon.errors import CommandError
from bareon.report import bundle
from bareon.run import Command
from bareon.tests.conftest import Record

SECRETS = {
    "https://images.example/x?temp_url_sig={}&temp_url_expires=1": "5a1ec3d0f1",
    "swift://operator:{}@store/c/o": "hunter2hunter2",
    '"passwd": "{}"': "$6$saltsalt$c29tZWhhc2g/abc.def",
    "BOOT_IMAGE=/vmlinuz ipa-api-token={} quiet": "t0kent0ken",
    "rd.luks.password={}": "opensesame",
    'rootpwd="{}" quiet': "two words",
    "token='{}'": "single quotes",
    '"password": "{}"': "of a JSON",
    "Authorization: Bearer {}": "b34r3r",
    "X-Auth-Token: {}": "t0k3n",
    "luks.passphrase={}": "sesame",
    "http://me:{}@server/x": "wo'rd/x",
    "{}": "$argon2id$v=19$m=65536,t=3$c2FsdA$aGFzaA",
}


def _read(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        found = {x.name.removeprefix("bareon-bundle/"): archive.extractfile(x) for x in archive}
        return {name: file.read().decode() for name, file in found.items() if file}


SAID = "\n".join(line.format(secret) for line, secret in SECRETS.items())


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with one disk, whose programs and files all say every secret."""
    for name in ("block/vda", "block/loop0", "block/dm-0"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "log").write_text(SAID)
    gathered = bundle.gathered
    monkeypatch.setattr(bundle, "gathered", lambda: gathered(str(tmp_path / "block")))
    monkeypatch.setattr(bundle, "run", lambda argv, timeout, ok: Command(tuple(argv), 0, SAID, "", 0.1))
    return tmp_path


@pytest.mark.pain("lost-logs")
def test_everything_is_there_and_no_secret(node: Path, record_property: Record) -> None:
    path = node / "bundle.tar.gz"
    assert bundle.write(str(path), {"bareon.log": str(node / "log"), "report.json": str(node / "absent")})
    found = _read(path)
    commands = {"lsblk.json", "lvm.json", "mdadm", "dmesg", "table-vda"}
    assert set(found) == {"bareon.log", "report.json", "mdstat", "mounts", *commands}
    assert "No such file" in found["report.json"]
    for name in (*commands, "bareon.log"):
        assert "https://images.example/x?temp_url_sig=***" in found[name]
        assert "BOOT_IMAGE=/vmlinuz ipa-api-token=*** quiet" in found[name]
    looked = [(secret, text) for secret in SECRETS.values() for text in found.values()]
    assert not [secret for secret, text in looked if secret in text]
    record_property("secrets looked for in a bundle", f"{len(SECRETS)} in {len(found)} files")
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_fails_is_said_in_its_place(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argv: Sequence[str], timeout: float, ok: range) -> Command:
        raise CommandError(argv, None, f"was stopped after {timeout:g} s")

    monkeypatch.setattr(bundle, "run", fail)
    path = node / "bundle.tar.gz"
    assert bundle.write(str(path), {})
    found = _read(path)
    assert found["dmesg"] == "dmesg was stopped after 10 s (dmesg)\n"
    assert "sfdisk --dump /dev/vda" in found["table-vda"]


def test_no_bundle_is_no_error(node: Path) -> None:
    assert not bundle.write(str(node / "absent/bundle.tar.gz"), {})
    assert not list(node.glob(".bundle*"))


def test_a_link_in_the_way_is_replaced(node: Path) -> None:
    path, other = node / "bundle.tar.gz", node / "other"
    other.write_text("mine")
    path.symlink_to(other)
    assert bundle.write(str(path), {})
    assert (other.read_text(), path.is_symlink()) == ("mine", False)
