# SPDX-License-Identifier: Apache-2.0
"""What is said of images, and what their settings come to."""

from __future__ import annotations

import uuid

import pytest

from bareon import conf
from bareon.drivers.deploy.listing import Survey
from bareon.drivers.deploy.rsync import flags_for, is_daemon
from bareon.drivers.deploy.swift import is_fetchable
from bareon.errors import UsageError
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.model.settings import SwiftAccount, TransferSettings
from bareon.storage.filesystem import Filesystem, Mount, Mounted, PlannedFilesystem
from bareon.storage.identifier import as_kind
from bareon.tools import rsync


def test_secrets_are_not_in_a_repr() -> None:
    account = SwiftAccount("http://keystone", "me", "word")
    assert "word" not in repr(TransferSettings(swift=account))
    assert "word" not in repr(Image("a", Location("http://me:word@server/a")))


def test_an_identifier_fits_any_kind() -> None:
    decided = str(uuid.uuid4())
    assert as_kind(decided, "xfs") == decided
    assert as_kind(decided, "vfat") == f"{decided[-8:-4]}-{decided[-4:]}".upper()
    assert str(uuid.UUID(as_kind("ABCD-0123", "ext4"))) == as_kind("ABCD-0123", "ext4")
    assert as_kind("ABCD-0123", "vfat") == "ABCD-0123"


def test_values_of_options_for_rsync() -> None:
    given = ("-a", "--timeout", "600", "--exclude", "a b", "--contimeout=5", "--exclude", "-x")
    assert rsync.joined(given) == ("-a", "--timeout=600", "--exclude=a b", "--contimeout=5", "--exclude", "-x")
    assert rsync.refused(rsync.joined(given)) == ["--exclude"]


@pytest.mark.parametrize(
    ("flags", "nothing"),
    [(("-a",), False), (("-a", "--dry-run"), True), (("-an",), True), (("--no-links", "--inplace"), False)],
)
def test_a_trial_without_changes(flags: tuple[str, ...], nothing: bool) -> None:
    assert rsync.refused(flags) == []
    assert rsync.changes_nothing(flags) is nothing


def test_progress_of_rsync() -> None:
    progress = rsync.Progress()
    assert progress.read("receiving incremental file list") == (0, None)
    # More folders are still to be looked into: the percentage is of what is known so far.
    assert progress.read("      32768   4%   31.25MB/s    0:00:00 (xfr#2, ir-chk=1009/1013)") == (32768, None)
    assert progress.read("  192000000  50%   31.25MB/s    0:00:06 (xfr#7, to-chk=12/1013)") == (192000000, 384000000)
    assert progress.files == 7


def test_settings(tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(*argv: str) -> TransferSettings:
        known = [*conf.DRIVERS, *conf.TRANSFER]
        return conf.transfer_settings(conf.parse(argv, known, "bareon-provision", "1", ""))

    assert settings().swift is None
    assert settings("--image-attempts=2", "--image_ca_file=/ca").attempts == 2
    monkeypatch.setenv("OS_DEFAULT__SWIFT_KEY", "word")
    with pytest.raises(UsageError, match="also need swift_auth_url, swift_user"):
        settings()
    monkeypatch.setenv("OS_DEFAULT__SWIFT_USER", "me")
    monkeypatch.setenv("OS_DEFAULT__SWIFT_AUTH_URL", "http://keystone")
    assert settings().swift == SwiftAccount("http://keystone", "me", "word", "3")


def test_no_option_of_the_input_brings_a_kept_fstab_back() -> None:
    root = PlannedFilesystem("/dev/vda2", 1 << 30, "ext4", "uuid", Filesystem("ext4"), decision="keep")
    share = Survey("/", [Mounted(root, Mount("/"))]).shares[0]
    image = Image("a", Location("rsync://server/a"))
    flags = flags_for(image, share, ["-a", "--include=*"])
    boot = PlannedFilesystem("/dev/vda3", 1 << 30, "ext4", "uuid", Filesystem("ext4"), decision="keep")
    apart = Survey("/", [Mounted(root, Mount("/")), Mounted(boot, Mount("/boot"))]).shares[1]
    assert flags_for(image, apart, ["-a"])[:2] == (
        "--exclude=/boot/grub/device.map",
        "--exclude=/boot/grub2/device.map",
    )
    assert flags.index("--exclude=/etc/fstab") < flags.index("--include=*")


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("rsync://server/module", True),
        ("rsync://me@server:873/module/a@b", True),
        ("rsync://[2001:db8::1]:873/module", True),
        ("server::module", True),
        ("me@server::module/a b", True),
        ("rsync://a;reboot/module", False),
        ("rsync://$(reboot)/module", False),
        ("a`reboot`::module", False),
        ("a b::module", False),
        ("me@-e::module", False),
        ("rsync://me:wo/rd@server/module", False),
        ("rsync://server:port/module", False),
        ("rsync://:/module", False),
        ("rsync://server", False),
        ("-e::module", False),
    ],
)
def test_addresses_of_rsync(url: str, good: bool) -> None:
    assert is_daemon(Location(url)) == good


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://server/a", True),
        ("https://me:word@[2001:db8::1]:8443/a", True),
        ("swift://My_Container/object", True),
        ("file:///srv/a.img", True),
        ("http://", False),
        ("http:///a", False),
        ("http://server:port/a", False),
        ("http://server:99999/a", False),
        ("http://me:wo/rd@server/a", False),
        ("http://[::1/a", False),
        (" http://server/a", False),
        ("http:/server/a", False),
        ("file:/srv/a.img", False),
        ("file::srv/a.img", False),
        ("FILE:///srv/a.img", True),
        ("ftp://server/a", False),
    ],
)
def test_addresses_of_block_images(url: str, good: bool) -> None:
    assert is_fetchable(Location(url)) == good
