# SPDX-License-Identifier: Apache-2.0
"""Configdrives as files, in every form, and what is said of bad ones."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from bareon.actions.configdrive import WriteConfigdrive
from bareon.cmd.source import with_configdrive
from bareon.drivers.data.configdrive import from_documents, from_file
from bareon.errors import BareonError, InvalidInput
from bareon.model.configdrive import SIZE
from bareon.model.deployment import Deployment
from bareon.sizes import MIB
from bareon.storage.disk import PlannedPartition
from bareon.tests.filesystems import made
from bareon.tools import device

CAPTURED = Path(__file__).parent / "captured"
SECRET = "correct horse battery staple"


def _captured(name: str) -> bytes:
    """A file system that xorrisofs (with Nova's options for mkisofs) or mkfs.vfat made."""
    return gzip.decompress(base64.b64decode((CAPTURED / f"{name}.gz.b64").read_bytes()))


def _iso() -> bytes:
    return _captured("configdrive.iso")


@pytest.mark.parametrize("form", ["plain", "gzip", "base64", "wrapped base64"])
def test_an_iso_in_each_form(form: str) -> None:
    packed = gzip.compress(_iso())
    forms = {
        "plain": _iso(),
        "gzip": packed,
        "base64": base64.b64encode(packed),
        "wrapped base64": base64.encodebytes(packed),
    }
    found = from_file(forms[form], "file")
    assert (found.kind, found.image, found.sector) == ("iso9660", _iso(), 2048)


def test_vfat() -> None:
    image = _captured("vfat16")
    found = from_file((CAPTURED / "vfat16.gz.b64").read_bytes(), "file")
    assert (found.kind, found.sector, found.image) == ("vfat", 512, image)


def test_vfat_with_its_label_in_the_root_directory_alone() -> None:
    image = bytearray(_captured("vfat16"))
    image[43:54] = b"NO NAME    "
    assert from_file(bytes(image), "file").kind == "vfat"


def test_fat32_has_its_label_elsewhere() -> None:
    image = bytearray(64 * 512)
    image[11:13], image[32:36] = (512).to_bytes(2, "little"), (64).to_bytes(4, "little")
    image[71:82], image[82:87], image[510:512] = b"CONFIG-2   ", b"FAT32", b"\x55\xaa"
    assert from_file(bytes(image), "file").sector == 512


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (SECRET.encode(), "neither ISO 9660 nor vfat"),
        (b"", "neither ISO 9660 nor vfat"),
        (base64.b64encode(SECRET.encode()), "neither ISO 9660 nor vfat"),
        (gzip.compress(SECRET.encode() * 9)[:-9], "cut off"),
        (b"\x1f\x8b" + SECRET.encode(), "damaged"),
        (gzip.compress(bytes(SIZE + 1)), "larger than 64 MiB"),
        (_iso()[: len(_iso()) // 2], "cut off"),
        (_iso().replace(b"config-2", b"cidata  "), "its label is not config-2"),
    ],
    ids=["text", "nothing", "base64 of text", "half a gzip", "no gzip", "bomb", "half an iso", "another label"],
)
def test_a_bad_file(content: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        from_file(content, "--config_drive_path x")
    assert SECRET not in str(caught.value)
    assert caught.value.defects[0].path == "--config_drive_path x"


def _step(image: bytes) -> WriteConfigdrive:
    part = PlannedPartition("/dev/x2", SIZE, 2, MIB, "configdrive", "ABCD")
    return WriteConfigdrive("do_configdrive", part, from_file(image, "--config_drive_path x"))


def test_members_of_an_iso_are_not_read() -> None:
    """bareon neither lists nor unpacks an ISO: what its folders say is written as it is, lies included."""
    root = int.from_bytes(_iso()[0x8000 + 158 : 0x8000 + 162], "little") * 2048
    endless = b"\x2a\x00" + (root // 2048).to_bytes(4, "little") * 2 + b"\xff" * 8
    for lie in (b"../../etc/shadow", endless, b"RR\x05\x01\x81SL\xff\x01", bytes(2048), b"\xff" * 2048):
        image = _iso()[: root + 34] + lie + _iso()[root + 34 + len(lie) :]
        found = from_file(image, "file")
        assert (found.image, found.files) == (image, ())
        _step(image).preflight()


def test_an_image_that_is_something_else_as_well(tmp_path: Path) -> None:
    """The first 32 KiB of an ISO 9660 are anybody's."""
    other = made(tmp_path / "ext4", "ext4").read_bytes()[:0x8000]
    # A physical volume: struct label_header of LVM2, lib/label/label.h.
    label = (32).to_bytes(4, "little") + b"LVM2 001" + b"a" * 32 + bytes(512 - 20 - 44)
    checksum = zlib.crc32(label, 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    volume = b"LABELONE" + (1).to_bytes(8, "little") + checksum.to_bytes(4, "little") + label
    for image in (other + _iso()[0x8000:], bytes(512) + volume + _iso()[1024:]):
        assert from_file(image, "file").kind == "iso9660"
        with pytest.raises(InvalidInput, match="as well: whoever looks") as caught:
            _step(image).preflight()
        assert caught.value.defects[0].path == "--config_drive_path x"
    _step(_iso()).preflight()
    _step(_captured("vfat16")).preflight()


@pytest.mark.parametrize("wrap", [gzip.compress, base64.b64encode, lambda x: base64.b64encode(gzip.compress(x))])
def test_an_image_is_unpacked_once(wrap: Callable[[bytes], bytes]) -> None:
    """Not for ever: what is packed again inside is no configdrive."""
    with pytest.raises(InvalidInput, match="neither ISO 9660 nor vfat"):
        from_file(wrap(gzip.compress(gzip.compress(_iso()))), "file")


def test_documents() -> None:
    found = from_documents({"meta_data": {"hostname": "h"}, "user_data": "#!/bin/sh\n", "network_data": {}})
    assert dict(found.files) == {
        "meta_data.json": b'{"hostname": "h"}',
        "user_data": b"#!/bin/sh\n",
        "network_data.json": b"{}",
    }
    assert dict(from_documents({"user_data": {"a": 1}}).files)["user_data"] == b'{"a": 1}'


def test_documents_that_are_too_large() -> None:
    assert from_documents({"user_data": "x" * (62 * MIB)})
    with pytest.raises(InvalidInput, match=r"\$.configdrive: its files need 63.02 MiB, and 63 MiB is the most"):
        from_documents({"user_data": "x" * (63 * MIB + 1), "vendor_data": {}})


def test_no_content_in_a_representation() -> None:
    deployment = Deployment("clean", (), configdrive=from_documents({"user_data": SECRET}))
    assert SECRET not in repr(deployment)


def test_the_file_of_the_option(tmp_path: Path) -> None:
    deployment = Deployment("clean", ())
    assert with_configdrive(deployment, str(tmp_path / "absent")) == (deployment, b"")
    file = tmp_path / "file"
    file.write_bytes(_iso())
    found, content = with_configdrive(deployment, str(file))
    assert found.configdrive and found.configdrive.image == content == _iso()
    with pytest.raises(InvalidInput, match="the input has a configdrive"):
        with_configdrive(Deployment("clean", (), configdrive=from_documents({})), str(file))
    with pytest.raises(BareonError, match="cannot be read: Is a directory"):
        with_configdrive(deployment, str(tmp_path))


@pytest.mark.pain("stale-configdrive")
def test_nothing_is_left_of_an_earlier_one(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"old" * MIB)
    device.overwrite(str(disk), b"new", 3 * MIB)
    assert disk.read_bytes() == b"new" + bytes(3 * MIB - 3)


def test_meta_data_gets_a_uuid_only_where_it_has_none() -> None:
    part = PlannedPartition("/dev/x2", SIZE, 2, MIB, "configdrive", "ABCD")
    step = WriteConfigdrive("do_configdrive", part, from_documents({}))
    assert json.loads(step.completed("meta_data.json", b'{"a": 1}')) == {"a": 1, "uuid": "abcd"}
    assert json.loads(step.completed("meta_data.json", b'{"uuid": "mine"}')) == {"uuid": "mine"}
    assert step.completed("user_data", b"{}") == b"{}"
    assert SECRET not in repr(WriteConfigdrive("do_configdrive", part, from_documents({"user_data": SECRET})))
