# SPDX-License-Identifier: Apache-2.0
"""Disks that are chosen by rules: never one that does not fit, and never one of several."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bareon.actions.partitioning import Partitioning
from bareon.decide import Decision, decide
from bareon.drivers.data.ironic import Ironic
from bareon.drivers.deploy.rsync import Rsync
from bareon.errors import UnsuitableNode
from bareon.facts import from_json, to_json
from bareon.layout.match import match_disks, settled
from bareon.layout.stack import meant
from bareon.model.deployment import Deployment
from bareon.model.node import NodeFacts, Use
from bareon.plan import text
from bareon.plan.document import document
from bareon.plan.fingerprint import check, fingerprint
from bareon.probe import is_boot_medium, named_medium
from bareon.sizes import MIB
from bareon.storage.disk import Disk, DiskFacts, DiskId, DiskIds, DiskRule, PartitionFacts
from bareon.tests import cases
from bareon.tests.cases import SEED
from bareon.tests.test_nvram import option
from bareon.tools import efi, lsblk

NODE = cases.node("eight-disks")


def _deployment(*ids: DiskId | DiskIds | DiskRule) -> Deployment:
    return Deployment("clean", tuple(Disk(x, None, (), f"$.disks[{i}]") for i, x in enumerate(ids)))


def _chosen(rule: DiskRule, *disks: DiskFacts) -> str:
    return match_disks(_deployment(rule), NodeFacts("bios", disks))[0].device


def _decision(node: NodeFacts, **rule: Any) -> Decision:
    entry = {"type": "disk", "id": {"type": "rule", **rule}, "volumes": []}
    deployment = Ironic().parse(json.dumps({"partitions_policy": "clean", "partitions": [entry]}).encode())
    return decide(deployment, node, [Partitioning()], Rsync(), SEED)


# Values of few kinds, so that disks are often alike.
_TEXTS = st.sampled_from(["Fast SSD", "Fast SSD ", "Slow [1]", "Virtual Disk", None])
_DISKS = st.builds(
    DiskFacts,
    device=st.just(""),
    size=st.sampled_from([*(x * MIB for x in (10, 15, 20, 25, 30, 40)), 0]),
    kind=st.sampled_from(["disk"] * 12 + ["loop", "rom"]),
    vendor=st.sampled_from(["ATA", "SEAGATE", None]),
    model=_TEXTS,
    serial=st.sampled_from([None, None, None, None, "1", "2"]),
    wwn=st.sampled_from([None, None, None, None, "0x1", "0x2", "0x0"]),
    scsi=st.sampled_from([None, "0:0:0:0", "0:0:10:0"]),
    transport=st.sampled_from(["sata", "sata", "sata", "usb", "nvme", None]),
    rotational=st.sampled_from([True, False, None]),
    read_only=st.sampled_from([False] * 9 + [True]),
    removable=st.sampled_from([False] * 9 + [True]),
    boot_medium=st.sampled_from([False] * 9 + [True]),
    zoned=st.sampled_from(["none"] * 9 + ["host-managed"]),
    links=st.sampled_from([*((f"/dev/disk/by-path/pci-0000:00:17.0-ata-{x}",) for x in (1, 2, 9, 10, 11, 20)), ()]),
)
_SIZES = st.sampled_from([None] * 6 + [10 * MIB, 20 * MIB])
_RULES = st.builds(
    DiskRule,
    min_size=_SIZES,
    max_size=_SIZES,
    model=st.sampled_from([None] * 9 + ["Fast SSD", "Fast*", "Slow [1]", "* *"]),
    vendor=st.sampled_from([None] * 9 + ["ATA", "A*"]),
    scsi=st.sampled_from([None] * 9 + ["0:0:*:0"]),
    path=st.sampled_from([None] * 9 + ["disk/by-path/*-ata-1", "/dev/disk/by-path/pci-*"]),
    rotational=st.sampled_from([None] * 6 + [True, False]),
    transport=st.sampled_from([None] * 6 + ["sata"]),
    exclude=st.sampled_from([None, None, (), ("usb",), ("removable", "boot-medium"), ("virtual-media",)]),
    pick=st.sampled_from([None, "smallest", "largest", "first"]),
)
_NODES = st.lists(_DISKS, min_size=1, max_size=6).map(
    lambda disks: NodeFacts("bios", tuple(replace(x, device=f"/dev/sd{'abcdef'[i]}") for i, x in enumerate(disks)))
)


def _like(wanted: str | None, there: Sequence[str | None]) -> bool:
    if wanted is None:
        return True
    form = ".*".join(map(re.escape, wanted.split("*")))
    return any(x is not None and re.fullmatch(form, x.strip()) for x in there)


def _fits(rule: DiskRule, disk: DiskFacts) -> bool:
    """The same question, answered in another way."""
    words = f"{disk.vendor}{disk.model}".lower()
    excluded = {
        "removable": disk.removable,
        "usb": disk.transport == "usb",
        "virtual-media": disk.transport == "usb" and "virtual" in words,
        "boot-medium": disk.boot_medium,
    }
    return (
        disk.kind == "disk"
        and (disk.size, disk.zoned) != (0, "none")
        and disk.size in range(max(rule.min_size or 1, 1), (rule.max_size or 1 << 60) + 1)
        and disk.zoned != "host-managed"
        and _like(rule.model, [disk.model])
        and _like(rule.vendor, [disk.vendor])
        and _like(rule.scsi, [disk.scsi])
        and _like(rule.transport, [disk.transport])
        and _like(rule.path and f"/dev/{rule.path.removeprefix('/dev/')}", disk.links)
        and rule.rotational in (None, disk.rotational)
        and not any(
            excluded[x] for x in (("removable", "usb", "virtual-media") if rule.exclude is None else rule.exclude)
        )
    )


def _one_disk(one: DiskFacts, other: DiskFacts) -> bool:
    wwns = [x.wwn if x.wwn != "0x0" else None for x in (one, other)]
    if all(wwns):
        return wwns[0] == wwns[1]
    return one.serial is not None and (one.serial, one.size) == (other.serial, other.size)


def _slot(disk: DiskFacts) -> int | None:
    return int(disk.links[0].rpartition("-")[2]) if disk.links else None


def _expected(rule: DiskRule, node: NodeFacts, named: DiskFacts | None) -> DiskFacts | None:
    """The disk that a rule means; ``None`` where nobody may take one, or the named one is a path beside others."""
    has_wwn = named and named.wwn not in (None, "0x0")
    if has_wwn and named and any(x != named and x.kind != "loop" and x.wwn == named.wwn for x in node.disks):
        return None
    taken = [named, *(x for x in node.disks if _one_disk(named, x))] if named else []
    fitting = [x for x in node.disks if x not in taken and _fits(rule, x)]
    if len(fitting) > 1 and rule.pick == "first":
        slots = [_slot(x) for x in fitting]
        fitting = [x for x in fitting if None not in slots and _slot(x) == min(y for y in slots if y is not None)]
    elif len(fitting) > 1 and rule.pick:
        best = sorted((x.size for x in fitting), reverse=rule.pick == "largest")[0]
        fitting = [x for x in fitting if x.size == best]
    if len(fitting) != 1:
        return None
    (disk,) = fitting
    others = [x for x in node.disks if x != disk and x.kind != "loop" and _one_disk(x, disk)]
    refused = others or disk.read_only or (disk.boot_medium and rule.exclude is None)
    return None if refused else disk


@given(node=_NODES, rule=_RULES, name=st.sampled_from([None, "sda", "sdb"]))
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.pain("a-disk-of-a-sort")
def test_a_rule_chooses_the_one_disk_that_fits_or_none(node: NodeFacts, rule: DiskRule, name: str | None) -> None:
    named = next((x for x in node.disks if name and x.device == f"/dev/{name}"), None)
    if named and (named.kind != "disk" or named.unwritable):
        named = None
    ids = [rule, *([DiskId("name", named.device)] if named else [])]
    wanted = _expected(rule, node, named)
    if wanted is None:
        with pytest.raises(UnsuitableNode):
            match_disks(_deployment(*ids), node)
    else:
        assert match_disks(_deployment(*ids), node)[0] == wanted


@given(node=_NODES, first=_RULES, second=_RULES)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_two_rules_never_choose_one_disk(node: NodeFacts, first: DiskRule, second: DiskRule) -> None:
    each = [_expected(rule, node, None) for rule in (first, second)]
    alike = each[0] and each[1] and (each[0] == each[1] or _one_disk(each[0], each[1]))
    if None in each or alike:
        with pytest.raises(UnsuitableNode):
            match_disks(_deployment(first, second), node)
    else:
        assert list(match_disks(_deployment(first, second), node)) == each


@pytest.mark.pain("names-that-change")
def test_the_first_is_by_the_place_in_the_machine() -> None:
    places = ["0000:ff:00.0-nvme-1", "0000:0a:00.0-ata-10", "0000:0a:00.0-ata-2", "0000:10:00.0-ata-1"]
    disks = [
        DiskFacts(f"/dev/sd{name}", MIB, links=(f"/dev/disk/by-path/pci-{place}", "/dev/disk/by-id/x"))
        for name, place in zip("abcd", places, strict=True)
    ]
    order = []
    while disks:
        order.append(_chosen(DiskRule(pick="first"), *disks))
        disks = [disk for disk in disks if disk.device != order[-1]]
    assert order == ["/dev/sdc", "/dev/sdb", "/dev/sdd", "/dev/sda"]


@pytest.mark.pain("installers-own-disk")
def test_the_boot_medium_is_not_taken_unless_the_rule_speaks_of_it() -> None:
    disk, other = DiskFacts("/dev/sda", MIB, boot_medium=True), DiskFacts("/dev/sdb", 2 * MIB)
    with pytest.raises(UnsuitableNode, match="which the ramdisk came from; write exclude into the rule"):
        _chosen(DiskRule(pick="smallest"), disk, other)
    assert _chosen(DiskRule(pick="smallest", exclude=()), disk, other) == "/dev/sda"
    assert _chosen(DiskRule(pick="smallest", exclude=("boot-medium",)), disk, other) == "/dev/sdb"
    assert _chosen(DiskRule(pick="largest"), disk, other) == "/dev/sdb"


def test_memory_that_the_ramdisk_came_in_is_no_disk() -> None:
    """An ISO that firmware has fetched by HTTP is a disk of persistent memory to the kernel."""
    fetched, other = DiskFacts("/dev/pmem0", MIB, boot_medium=True), DiskFacts("/dev/sdb", 2 * MIB)
    for exclude in (None, ()):
        assert _chosen(DiskRule(pick="smallest", exclude=exclude), fetched, other) == "/dev/sdb"
    with pytest.raises(UnsuitableNode, match="memory, into which the firmware has fetched the ramdisk"):
        _chosen(DiskRule(), fetched)
    assert _chosen(DiskRule(), DiskFacts("/dev/pmem0", MIB)) == "/dev/pmem0"


def test_the_plan_shows_the_rule() -> None:
    plan = _decision(NODE, min_size="200 GiB", rotational=False, vendor="ATA", pick="first").plan
    (disk,) = document(plan)["disks"]
    assert disk["device"] == "/dev/sdc"
    assert disk["rule"] == {
        "min_size": 200 << 30,
        "vendor": "ATA",
        "rotational": False,
        "exclude": ["removable", "usb", "virtual-media"],
        "pick": "first",
    }
    lines = text.render(plan, NODE).splitlines()
    at = lines.index("  chosen by its rule: min_size 204800 MiB; vendor 'ATA'; not rotational;")
    assert lines[at - 1].startswith("/dev/sdc  (")
    assert lines[at + 1] == "    excluding removable, usb, virtual-media; the first"


def test_a_disk_with_a_name_has_no_rule_in_the_plan() -> None:
    assert "rule" not in document(cases.plan_of(cases.load(cases.HERE / "cases/plan/two-disks.yaml")))["disks"][0]


def test_a_saved_plan_is_for_the_disks_that_its_rules_chose() -> None:
    rule = {"transport": "nvme", "pick": "largest"}
    saved = _decision(NODE, **rule)
    given, plan = b"{}", document(saved.plan)
    seal = fingerprint(SEED, given, NODE, ["/dev/nvme0n2"])
    larger = replace(NODE, disks=(*NODE.disks, DiskFacts("/dev/nvme1n1", 1 << 42, transport="nvme")))
    now = _decision(larger, **rule)
    found = [disk.device for disk in now.plan.layout.disks]
    assert found == ["/dev/nvme1n1"]
    with pytest.raises(UnsuitableNode) as caught:
        check(seal, plan, fingerprint(SEED, given, larger, found), document(now.plan))
    assert [line.partition(",")[0] for line in caught.value.lines()] == [
        "/dev/nvme1n1 is not a disk of the saved plan; plan anew",
        "/dev/nvme0n2",
    ]


def test_where_the_ramdisk_came_from_is_no_part_of_a_saved_plan() -> None:
    came = replace(NODE, disks=tuple(replace(disk, boot_medium=True) for disk in NODE.disks))
    disks = [disk.device for disk in NODE.disks]
    assert fingerprint(SEED, b"", NODE, disks) == fingerprint(SEED, b"", came, disks)


@pytest.mark.pain("yes-in-one-mode")
def test_a_chosen_disk_must_be_allowed_like_any_other() -> None:
    decision = _decision(NODE, transport="nvme", pick="largest")
    assert decision.check_allowed(["eui.00253800000000a2"]).plan.layout.disks[0].device == "/dev/nvme0n2"
    with pytest.raises(
        UnsuitableNode, match=r"^/dev/nvme0n2 .* would lose data, and --allow_destroy does not name it"
    ):
        decision.check_allowed(["sda"])


def test_a_settled_deployment_stays_as_it_is() -> None:
    once = settled(_deployment(DiskRule(transport="nvme", pick="largest"), DiskId("name", "sda")), NODE)
    assert settled(once, NODE) is once
    assert [disk.device for disk in match_disks(once, NODE)] == ["/dev/nvme0n2", "/dev/sda"]


@pytest.mark.pain("emmc-boot-areas")
def test_an_emmc_is_meant_by_the_number_that_its_boot_areas_share() -> None:
    node = cases.node("odd-disks")
    assert meant(node, "0xb007") == ("/dev/mmcblk0",)
    assert meant(node, "mmcblk0boot1") == ("/dev/mmcblk0boot1",)
    assert meant(node, "same") == ("/dev/sde", "/dev/sdf")


def test_facts_of_an_older_bareon_fit_no_rule_of_what_they_leave_out() -> None:
    node = from_json({"format": 1, "firmware": "bios", "disks": [{"device": "/dev/sda", "size": 4 * MIB}]})
    disk = node.disks[0]
    assert (disk.vendor, disk.rotational, disk.boot_medium) == (None, None, False)
    assert from_json(to_json(node)) == node
    assert _chosen(DiskRule(), disk) == "/dev/sda"
    with pytest.raises(UnsuitableNode, match="vendor is not known, whether it rotates is not known"):
        _chosen(DiskRule(vendor="*", rotational=False), disk)


@pytest.mark.parametrize(
    ("uses", "guid", "booted", "came"),
    [
        ((), "A-1", "a-1", True),
        ((), "A-1", "a-2", False),
        ((), None, None, False),
        ((Use("/dev/sda1", "mounted", ("/dev/sda",), "/"),), None, None, True),
        ((Use("/dev/os/root", "mounted", ("/dev/sdb", "/dev/sda"), "/"),), None, None, True),
        ((Use("/dev/sdb1", "mounted", ("/dev/sdb",), "/"),), None, None, False),
        ((Use("/dev/sda", "mounted", ("/dev/sda",), "/run/live/medium"),), None, None, True),
        ((Use("/dev/sda1", "held", ("/dev/sda",), "/"),), None, None, False),
        (
            (Use("/dev/sda1", "mounted", ("/dev/sda",), "/srv"), Use("/dev/sda1", "swap", ("/dev/sda",))),
            "A-1",
            None,
            False,
        ),
    ],
)
def test_where_the_ramdisk_came_from(uses: tuple[Use, ...], guid: str | None, booted: str | None, came: bool) -> None:
    part = PartitionFacts(1, "/dev/sda1", MIB, MIB, "", guid)
    assert is_boot_medium(DiskFacts("/dev/sda", 4 * MIB, partitions=(part,)), uses, {booted} - {None}) is came


@pytest.mark.parametrize(
    ("cmdline", "named"),
    [
        ("", None),
        ("a bareon.medium=5F1656B7-204f b", "5f1656b7-204f"),
        ("xbareon.medium=a", None),
        ("bareon.medium=a bareon.medium=b", "b"),
    ],
)
def test_the_medium_that_the_boot_loader_names(cmdline: str, named: str | None) -> None:
    assert named_medium(cmdline) == named


def test_the_kernel_says_nothing_of_the_size_of_what_it_cannot_use() -> None:
    row = {"kname": "x", "type": "disk", "ro": False, "rm": False, "maj:min": "8:0"}
    row |= dict.fromkeys(("log-sec", "phy-sec", "model", "serial", "wwn", "hctl", "tran", "pkname"))
    rows = [
        {**row, "path": "/dev/sda", "size": 0, "hctl": "0:0:0:0", "tran": "sas"},
        {**row, "path": "/dev/sdb", "size": 0, "rm": True, "tran": "usb"},  # a reader without a card
        {**row, "path": "/dev/nbd0", "size": 0},
        {**row, "path": "/dev/loop0", "type": "loop", "size": 0},
        {**row, "path": "/dev/vda", "size": 512},
    ]
    found = [device.path for device in lsblk.parse(json.dumps({"blockdevices": rows}))]
    assert found == ["/dev/sda", "/dev/vda"]


def test_the_partition_that_was_booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert efi.booted_partition(str(tmp_path / "absent")) is None
    monkeypatch.setattr(efi, "variables", contextlib.nullcontext)
    entry = option(efi.Entry("a stick", "5f1656b7-204f-43cf-bbc4-dd89e3232e03"))
    (tmp_path / f"Boot0003-{efi.GLOBAL}").write_bytes(entry)
    assert efi.booted_partition(str(tmp_path)) is None
    for current, partition in ((b"\3\0", "5f1656b7-204f-43cf-bbc4-dd89e3232e03"), (b"\4\0", None)):
        (tmp_path / f"BootCurrent-{efi.GLOBAL}").write_bytes(b"\7\0\0\0" + current)
        assert efi.booted_partition(str(tmp_path)) == partition
