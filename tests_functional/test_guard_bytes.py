# SPDX-License-Identifier: Apache-2.0
"""Random disks with guard bytes in everything that must not change, and a run of bareon over them.

The disks are drawn from a seed: partitions with file systems and without, containers, logical volumes, thin ones in a
pool, subvolumes, a mirror, a btrfs over both disks, gaps, and a disk that the input does not mention, with a volume
group of its own. The guards are written and read on the host, in the files that are the node's disks, so that nothing
the node says about itself takes part in the judgement.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests_functional.bench.disk import Disk
from tests_functional.bench.node import Node
from tests_functional.bench.session import Record, Session
from tests_functional.bench.template import DiskSpec, Template

MIB = 1 << 20
SIZE = 1024 * MIB
SEEDS = (0, 1, 4, 5)  # with and without containers, kept ones and others
EXTENT = 4 * MIB
CHUNK = 64 << 10  # of a pool
KEY = "/run/key"
HEADER = 16 * MIB  # of a container
# What is on the disk that the input does not mention.
FOREIGN = (
    "pvcreate -q /dev/vdc && vgcreate -q foreign /dev/vdc && lvcreate -q -y -n x -L 64M foreign",
    "mdadm --create /dev/md/foreign --run -q -l 1 -n 2 /dev/vdc missing && mkfs.ext4 -q /dev/md/foreign",
    "mkfs.ext4 -q /dev/vdc",
)
FILE_SYSTEMS = ("ext4", "vfat", "ext2")


@dataclass(frozen=True)
class Region:
    """Bytes of a disk that must stay as they are."""

    disk: str
    start: int
    size: int
    what: str


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.pain("all-disks")
def test_what_is_kept_stays_byte_for_byte(seed: int, session: Session, record_property: Record) -> None:
    names = ("vda", "vdb", "vdc")
    disks = [DiskSpec(name, "virtio", f"GUARD-{name}", SIZE) for name in names]
    with session.node_in_ramdisk(Template.load("two_disks"), disks, f"guard-bytes-{seed}") as node:
        compared = _case(random.Random(seed), node)
        record_property("guarded regions compared, none of them lost", compared)


def _case(dice: random.Random, node: Node) -> int:
    """Make the disks, guard what is to be kept, run bareon again, compare. The number of regions compared."""
    first = _random_input(dice)
    node.ssh.put(json.dumps({**first, "partitions_policy": "clean"}), "/tmp/provision.json")
    node.ssh.put("of all containers", KEY)
    node.ssh.run(dice.choice(FOREIGN), timeout=120)
    node.ssh.run("bareon-partition --progress none", timeout=200)
    plan = json.loads(node.ssh.run("bareon-partition --plan --plan_format json", timeout=100).stdout)
    # From here on nothing on the node may hold blocks of its own.
    node.ssh.run(
        "ls /dev/mapper | grep ^vd | xargs -r -n 1 cryptsetup close; vgchange -q -an;"
        " mdadm --wait /dev/md/mirror; mdadm --stop --scan; sync; echo 3 > /proc/sys/vm/drop_caches"
    )
    extents = _extents(node)
    regions = list(_regions(plan, [*extents, *_thin_extents(node, extents)], dice, node))
    before = {region: _guard(node.disk(region.disk), region, dice) for region in regions}
    node.ssh.run("echo 3 > /proc/sys/vm/drop_caches")
    second = {**first, "partitions_policy": "verify"}
    node.ssh.put(json.dumps(second), "/tmp/provision.json")
    done = node.ssh.run("bareon-partition --progress plain", timeout=200, check=False)
    assert done.exit_code == 0, f"{done.stdout}\n{done.stderr}"
    node.ssh.run("sync")
    for region, content in before.items():
        assert _read(node.disk(region.disk), region) == content, f"{region} was changed by\n{done.stdout}"
    _check_made_anew(first, plan, done.stdout)
    _clean_beside(node)
    return len(regions)


def _clean_beside(node: Node) -> None:
    """A clean of the disks of the schema leaves the one beside them alone, and what is on it."""
    beside = node.disk("vdc").digest()
    node.ssh.run("sed -i s/verify/clean/ /tmp/provision.json && bareon-partition --progress none", timeout=200)
    node.ssh.run("sync")
    assert node.disk("vdc").digest() == beside, "clean changed a disk that is not in the schema"


def _check_made_anew(wanted: dict[str, Any], plan: dict[str, Any], said: str) -> None:
    """What keep_data: false asks for was done, and no more: else the comparison would prove nothing."""
    volumes = [v for entry in wanted["partitions"] for v in entry["volumes"]]
    given_up = {_mount(v) for v in volumes if v.get("keep_data") is False}
    made = {line.rpartition(" for ")[2] for line in said.splitlines() if "] Make " in line and " for " in line}
    assert made == given_up


def _random_input(dice: random.Random) -> dict[str, Any]:
    """Two disks with a few volumes each, a group and a btrfs over both, perhaps a mirror; some to be made anew."""
    entries: list[dict[str, Any]] = []
    mirror = {"type": "raid", "mount": "/mirror", "file_system": "ext4", "size": "66 MiB"} | _keep(dice)
    mirrored = dice.random() < 0.6
    for disk in ("vda", "vdb"):
        volumes = [_random_partition(dice, f"/{disk}{i}") for i in range(dice.randint(1, 3))]
        volumes.append({"type": "pv", "vg": "os", "size": f"{dice.randint(120, 200)} MiB"})
        volumes += [mirror] if mirrored else []
        dice.shuffle(volumes)
        entries.append({"type": "disk", "id": {"type": "name", "value": disk}, "volumes": volumes})
    logical = [
        {
            "type": "lv",
            "name": f"v{i}",
            "mount": f"/lv{i}",
            "file_system": dice.choice(FILE_SYSTEMS),
            "size": "60 MiB",
        }
        | _keep(dice)
        for i in range(dice.randint(1, 3))
    ]
    # Together they may take more than the pool has.
    logical.append({"type": "lv", "name": "pool", "size": "32 MiB", "kind": "thin-pool"})
    logical += [
        {
            **{"type": "lv", "name": f"t{i}", "mount": f"/thin{i}", "size": "24 MiB"},
            **{"file_system": dice.choice(FILE_SYSTEMS), "kind": "thin", "pool": "pool"},
            **{"keep_data": kept},
        }
        for i, kept in enumerate((True, False, dice.random() < 0.5))
    ]
    spread = {"type": "btrfs", "mount": "/spread", "size": "128 MiB", "level": dice.choice(("raid0", "raid1"))}
    spread |= _keep(dice)
    for number, entry in enumerate(entries):
        divided = {"type": "partition", "size": "128 MiB", "file_system": "btrfs"} | _keep(dice)
        entry["volumes"].append({**divided, "subvolumes": [{"name": "@", "mount": f"/divided{number}"}]})
        entry["volumes"].append(spread)
    return {"partitions": [*entries, {"type": "vg", "id": "os", "volumes": logical}]}


def _keep(dice: random.Random) -> dict[str, Any]:
    return {"keep_data": dice.random() < 0.5}


def _random_partition(dice: random.Random, mount: str) -> dict[str, Any]:
    size = dice.randint(34, 100)
    if dice.random() < 0.3:
        return {"type": "partition", "size": f"{size} MiB"}
    volume: dict[str, Any] = {
        "type": "partition",
        "mount": mount,
        "file_system": dice.choice(FILE_SYSTEMS),
        "size": f"{size} MiB",
    }
    if dice.random() < 0.4:
        volume["size"] = f"{size + 16} MiB"
        volume["encryption"] = {"type": "luks2", "name": mount.strip("/"), "key": {"file": KEY}}
    return volume | _keep(dice)


def _thin_extents(node: Node, extents: Sequence[tuple[str, str, int, int]]) -> Iterator[tuple[str, str, int, int]]:
    """The same of the thin volumes, by the pool's own metadata; ``extents`` has where its data lie."""
    dumped = node.ssh.run(
        "lvchange --yes -a y os/pool_tmeta >&2 && thin_dump /dev/mapper/os-pool_tmeta;"
        " lvchange -a n os/pool_tmeta >&2"
    ).stdout
    numbered = node.ssh.run("lvs --noheadings -o thin_id,lv_name --select pool_lv=pool os").stdout
    names = dict(line.split() for line in numbered.splitlines())
    data = [x for x in extents if x[0] == "[pool_tdata]"]
    for device in ElementTree.fromstring(dumped).iter("device"):
        for mapped in device:
            first = int(mapped.get("data_begin") or mapped.get("data_block") or 0)
            yield from _on_members(names[device.attrib["dev_id"]], data, first, int(mapped.get("length", 1)))


def _on_members(
    name: str, data: Sequence[tuple[str, str, int, int]], first: int, length: int
) -> Iterator[tuple[str, str, int, int]]:
    """Where chunks of a pool lie on the members of its group."""
    start, end, at = first * CHUNK, (first + length) * CHUNK, 0
    for _, device, offset, size in data:
        low, high = max(start, at), min(end, at + size)
        if low < high:
            yield name, device, offset + low - at, high - low
        at += size


def _extents(node: Node) -> list[tuple[str, str, int, int]]:
    """(volume, partition, first byte on it, bytes) of each piece of the logical volumes of the group."""
    report = node.ssh.run(
        "lvs --all --segments --reportformat json --units b --nosuffix -o lv_name,seg_pe_ranges,seg_size os"
    ).stdout
    start = int(
        node.ssh.run("pvs --noheadings --units b --nosuffix -o pe_start --select vg_name=os | head -n 1").stdout
    )
    pieces = []
    for row in json.loads(report)["report"][0]["seg"]:
        for extents in row["seg_pe_ranges"].split():
            device, _, span = extents.rpartition(":")
            low, high = map(int, span.split("-"))
            pieces.append((row["lv_name"], device, start + low * EXTENT, (high - low + 1) * EXTENT))
    return pieces


def _regions(
    plan: dict[str, Any], extents: list[tuple[str, str, int, int]], dice: random.Random, node: Node
) -> Iterator[Region]:
    """Everything that a verify must not touch: kept volumes, volumes without file system, gaps, the other disk."""
    keep = _kept_mounts(node)
    yield Region("vdc", 0, SIZE, "a disk that is not mentioned")
    spread = [x for x in (*plan["arrays"], *plan["btrfs"]) if x["mount"] not in keep]
    members = {member for x in spread for member in x["members"]}
    where = {}
    opened = {member: x["mount"] for x in plan.get("encrypted", ()) for member in x["members"]}
    for disk in plan["disks"]:
        name, end = Path(disk["device"]).name, 0
        for part in disk["partitions"]:
            where[part["device"]] = (name, part["start"])
            end = part["start"] + part["size"]
            kept = part["role"] == "volume" and (part["file_system"] is None or part["mount"] in keep)
            kept |= part["role"] == "bios_grub" or (
                part["role"] in ("raid", "btrfs") and part["device"] not in members
            )
            if part["role"] == "luks":
                # What is closed may hold anything; of one in which a file system is made anew the header stays.
                size = part["size"] if opened[part["device"]] in keep else HEADER
                yield Region(name, part["start"], size, f"container {part['device']}")
            if kept:
                yield Region(name, part["start"], part["size"], f"{part['device']} ({part['role']}, {part['mount']})")
        yield Region(name, 0, MIB, "the partition table")
        yield Region(name, end, SIZE - end, "the end of the disk with the backup of the table")
    mounts = {volume["name"]: volume["mount"] for group in plan["volume_groups"] for volume in group["volumes"]}
    for volume, device, start, size in extents:
        if mounts.get(volume) in keep:
            name, offset = where[device]
            yield Region(name, offset + start, size, f"logical volume {volume}")


def _kept_mounts(node: Node) -> set[str]:
    """The mount points that say keep_data, from the input that is on the node."""
    entries = json.loads(node.ssh.run("cat /tmp/provision.json").stdout)["partitions"]
    return {_mount(v) for entry in entries for v in entry["volumes"] if v.get("keep_data")}


def _mount(volume: dict[str, Any]) -> str:
    """The mount point of a volume, or of its only subvolume."""
    return str(volume.get("mount") or volume["subvolumes"][0]["mount"])


def _guard(disk: Disk, region: Region, dice: random.Random) -> bytes:
    """Write guard bytes where nothing else has to be, and return what the region holds now."""
    if region.what.endswith("(volume, None)") or "bios_grub" in region.what:
        _write(disk, region.start, _guard_bytes(dice, region.size))
    elif region.what.startswith("container") and region.size > HEADER:
        _write(disk, region.start + HEADER, _guard_bytes(dice, region.size - HEADER))
    elif region.what.startswith("the end"):
        _write(disk, region.start, _guard_bytes(dice, region.size - MIB))
    elif disk.target == "vdc":
        _write(disk, 512 * MIB, _guard_bytes(dice, 8 * MIB))
    return _read(disk, region)


def _guard_bytes(dice: random.Random, size: int) -> bytes:
    """Whole MiB of bytes that occur nowhere else."""
    return dice.randbytes(MIB) * (size // MIB)


def _write(disk: Disk, start: int, content: bytes) -> None:
    with disk.path.open("r+b") as file:
        file.seek(start)
        file.write(content)


def _read(disk: Disk, region: Region) -> bytes:
    with disk.path.open("rb") as file:
        file.seek(region.start)
        return file.read(region.size)
