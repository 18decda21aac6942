# SPDX-License-Identifier: Apache-2.0
"""Which features a file system is made without, for which readers, and what its mkfs is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from bareon.actions.partitioning import Partitioning
from bareon.decide import decide
from bareon.drivers.data.ironic import Ironic
from bareon.drivers.deploy.rsync import Rsync
from bareon.plan.document import document
from bareon.plan.plan import Plan
from bareon.storage.filesystem import TYPES
from bareon.storage.mkfsoptions import ALLOWED, arguments, refusals
from bareon.storage.reader import FEATURES, FLOOR, GRUB, LINUX, Reader, Version, oldest, unread
from bareon.tests.cases import SEED, node


def _names(kind: str, *readers: Reader) -> str:
    return " ".join(x.name for x in unread(kind, readers))


@pytest.mark.parametrize(
    ("kind", "linux", "grub", "without"),
    [
        ("xfs", (3, 10), None, "finobt rmapbt reflink bigtime inobtcount sparse nrext64 exchange parent"),
        ("xfs", (4, 18), None, "bigtime inobtcount nrext64 exchange parent"),
        ("xfs", (5, 10), None, "bigtime inobtcount nrext64 exchange parent"),
        ("xfs", (5, 15), None, "nrext64 exchange parent"),
        ("xfs", (6, 1), (2, 6), "nrext64 exchange parent"),
        ("xfs", (6, 12), None, "exchange parent"),
        ("xfs", (6, 12), (2, 6), "nrext64 exchange parent"),
        ("xfs", (6, 12), (2, 4), "bigtime nrext64 exchange parent"),
        ("xfs", (6, 12), (2, 2), "bigtime sparse nrext64 exchange parent"),
        ("xfs", (6, 18), (2, 12), "exchange parent"),
        ("xfs", (6, 18), (2, 14), ""),
        ("xfs", (10, 0), (3, 0), ""),
        ("ext4", (3, 10), None, "metadata_csum_seed orphan_file"),
        ("ext4", (5, 10), None, "orphan_file"),
        ("ext4", (6, 12), (2, 6), "metadata_csum_seed"),
        ("ext4", (6, 12), (2, 12), ""),
        ("btrfs", (3, 10), None, "no-holes block-group-tree free-space-tree"),
        ("btrfs", (5, 15), None, "block-group-tree"),
        ("btrfs", (6, 1), (2, 6), "no-holes"),
        ("btrfs", (6, 1), (2, 12), ""),
        ("vfat", (3, 10), (2, 2), ""),
    ],
)
def test_what_a_reader_does_not_know_is_left_out(
    kind: str, linux: Version, grub: Version | None, without: str
) -> None:
    readers = [Reader("Linux", linux), *([Reader("GRUB", grub)] if grub else [])]
    assert _names(kind, *readers) == without


@pytest.mark.parametrize(
    ("kind", "version", "command"),
    [
        ("xfs", (5, 10), "-m bigtime=0,inobtcount=0"),
        ("xfs", (6, 1), "-m bigtime=0,inobtcount=0 -i nrext64=0"),
        ("xfs", (6, 13), "-m bigtime=0,inobtcount=0 -i nrext64=0,exchange=0 -n parent=0"),
        ("xfs", None, "-m bigtime=0,inobtcount=0 -i nrext64=0,exchange=0 -n parent=0"),
        ("ext4", (1, 46), "-O ^metadata_csum_seed"),
        ("ext4", (1, 47), "-O ^metadata_csum_seed,^orphan_file"),
        ("btrfs", (5, 10), ""),
        ("btrfs", (6, 2), "-O ^no-holes"),
        ("btrfs", (6, 19), "-O ^no-holes,^block-group-tree"),
    ],
)
def test_an_mkfs_is_told_only_what_it_knows(kind: str, version: Version | None, command: str) -> None:
    without = _names(kind, *FLOOR).split()
    assert arguments(kind, without, [], version) == command.split()


def test_options_of_the_input_share_an_option_with_what_is_left_out() -> None:
    given = ["-m rmapbt=1", "-K", "-s size=4096"]
    found = arguments("xfs", ["bigtime", "nrext64"], given, (6, 1))
    assert " ".join(found) == "-m bigtime=0,rmapbt=1 -i nrext64=0 -K -s size=4096"
    # Of several -O the last one alone counts for mke2fs.
    assert arguments("ext4", ["orphan_file"], ["-O casefold"], (1, 47)) == ["-O", "^orphan_file,casefold"]


def test_each_feature_can_be_set_by_options() -> None:
    for kind, features in FEATURES.items():
        for x in features:
            word = f"{x.name}=1" if kind == "xfs" else x.name
            assert not list(refusals(kind, [f"{x.option} {word}"])), x.name
    assert ALLOWED.keys() <= TYPES.keys()


@pytest.mark.parametrize(
    ("kind", "option", "reason"),
    [
        ("xfs", "-m uuid=1", "'uuid' is not allowed there"),
        ("xfs", "-m bigtime=2", "'bigtime=2' has no value that bigtime takes"),
        ("xfs", "-m bigtime", "'bigtime' has no value that bigtime takes"),
        ("xfs", "-m ^bigtime=1", "'^bigtime' is not allowed there"),
        ("xfs", "-l logdev=x", "'logdev' is not allowed there"),
        ("xfs", "-p proto", "-p is not allowed for xfs"),
        ("xfs", "-c options=x", "-c is not allowed for xfs"),
        ("xfs", "-K x", "'x' is no value for it"),
        ("xfs", "-m", "'' is not allowed there"),
        ("ext4", "-m 51", "'51' is no value for it"),
        ("ext4", "-m \u0661", "is no value for it"),
        ("ext4", "-O journal_dev", "'journal_dev' is not allowed there"),
        ("ext4", "-b 512", "'512' is no value for it"),
        ("ext4", "-d x", "-d is not allowed for ext4"),
        ("ext4", "-E root_owner=0", "'root_owner' is not allowed there"),
        ("btrfs", "-r x", "-r is not allowed for btrfs"),
        ("btrfs", "-d raid1", "'raid1' is no value for it"),
        ("vfat", "-F 16", "-F is not allowed for vfat"),
        ("swap", "-p 4096", "-p is not allowed for swap; allowed: none"),
    ],
)
def test_other_options_are_refused(kind: str, option: str, reason: str) -> None:
    ((number, words),) = refusals(kind, [option])
    assert number == 0
    assert reason in words


def test_an_option_is_given_once() -> None:
    assert [number for number, _ in refusals("xfs", ["-m bigtime=1", "-K", "-m rmapbt=1"])] == [2]


def test_the_oldest_of_each_counts() -> None:
    found = [Reader("Linux", (6, 1), "a"), Reader("GRUB", (2, 6), "a"), Reader("Linux", (5, 10), "b")]
    assert oldest(found) == (Reader("Linux", (5, 10), "b"), Reader("GRUB", (2, 6), "a"))
    assert [str(x) for x in (*oldest(found), LINUX, GRUB)] == [
        "Linux 5.10 of image 'b'",
        "GRUB 2.06 of image 'a'",
        "Linux 4.18 (assumed)",
        "GRUB 2.04 (assumed)",
    ]


def _plan(volumes: Sequence[Mapping[str, Any]], readers: Mapping[str, Sequence[Reader]]) -> Plan:
    """The plan of partitioning for images in which readers were seen."""
    images = [{"name": name, "image_pull_url": f"rsync://server/{name}"} for name in readers]
    listed = [{"type": "partition", "size": "900 MiB", **volume} for volume in volumes]
    disk = {"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": listed}
    wanted = {"partitions_policy": "clean", "partitions": [disk], "images": images}
    deployment = Ironic().parse(json.dumps(wanted).encode())
    seen = tuple(replace(x, readers=tuple(readers[x.name])) for x in deployment.images)
    return decide(replace(deployment, images=seen), node("two-disks"), [Partitioning()], Rsync(), SEED).plan


def _made(plan: Plan) -> dict[str | None, list[str]]:
    parts = document(plan)["disks"][0]["partitions"]
    return {x["mount"]: x["mkfs"]["readers"] for x in parts if x["mkfs"]}


NEW = (Reader("Linux", (6, 18), "new"), Reader("GRUB", (2, 14), "new"))
OLD = (Reader("Linux", (5, 10), "old"), Reader("GRUB", (2, 6), "old"))


def test_grub_matters_where_it_reads() -> None:
    kernel, grub = "Linux 6.18 of image 'new'", "GRUB 2.14 of image 'new'"
    apart = [{"mount": "/boot"}, {"mount": "/"}, {"mount": "/srv"}, {"mount": "/boot/more"}]
    assert _made(_plan(apart, {"new": NEW})) == {
        "/boot": [kernel, grub],
        "/": [kernel],
        "/srv": [kernel],
        "/boot/more": [kernel, grub],
    }
    assert _made(_plan([{"mount": "/"}], {"new": NEW})) == {"/": [kernel, grub]}


def test_what_is_not_known_is_assumed() -> None:
    assumed = {"/": ["Linux 4.18 (assumed)", "GRUB 2.04 (assumed)"]}
    assert _made(_plan([{"mount": "/"}], {"new": ()})) == assumed
    only = _plan([{"mount": "/"}], {"new": NEW[:1]})
    assert _made(only) == {"/": ["Linux 6.18 of image 'new'", "GRUB 2.04 (assumed)"]}


def test_the_oldest_image_on_a_volume_counts_and_grub_is_not_theirs() -> None:
    volumes = [
        {"mount": "/", "images": ["new"]},
        {"mount": "/", "images": ["old"]},
        {"mount": "/home", "images": ["new", "old"]},
    ]
    plan = _plan(volumes, {"new": NEW, "old": OLD})
    roots = [x["mkfs"]["readers"] for x in document(plan)["disks"][0]["partitions"] if x["mount"] == "/"]
    assert roots == [
        ["Linux 6.18 of image 'new'", "GRUB 2.04 (assumed)"],
        ["Linux 5.10 of image 'old'", "GRUB 2.04 (assumed)"],
    ]
    assert _made(plan)["/home"] == ["Linux 5.10 of image 'old'"]


def test_options_win_and_what_a_known_reader_does_not_read_is_said() -> None:
    volume = {"mount": "/", "mkfs_options": ["-m bigtime=1", "-i nrext64=0"]}
    plan = _plan([volume], {"old": OLD})
    (made,) = (x["mkfs"] for x in document(plan)["disks"][0]["partitions"] if x["mkfs"])
    assert made["without"] == ["inobtcount", "exchange", "parent"]
    assert made["options"] == ["-m bigtime=1", "-i nrext64=0"]
    assert plan.warnings == (
        "$.partitions[0].volumes[0].mkfs_options: Linux 5.10 of image 'old' does not read xfs with bigtime",
    )
    assert not _plan([volume], {"old": ()}).warnings
