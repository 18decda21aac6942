# SPDX-License-Identifier: Apache-2.0
"""btrfs: btrfs-subvolume(8), btrfs-device(8), and btrfs-inspect-internal(8) for one that nobody has mounted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bareon.run import run

PROGRAMS = ("btrfs",)

_TOP = 5
"""The number of the tree that a btrfs begins with; BTRFS_FS_TREE_OBJECTID of the kernel."""
_TOP_FOLDER = 256
"""The number of its top folder; BTRFS_FIRST_FREE_OBJECTID."""

# There is no other form: of all that can be had without a mount, which may write, it is the only one with names.
_REFERENCE = re.compile(r"^\titem \d+ key \((\S+) ROOT_REF \d+\) ")
_NAMED = re.compile(r"^\t\troot ref key dirid (\d+) sequence \d+ name (.*)$")


_CHUNK = re.compile(r"^\t\tlength \d+ owner \d+ stripe_len \d+ type (\S+)$")


@dataclass(frozen=True)
class Superblock:
    """What the superblock of a device says: the ``uuid`` of the file system and the ``count`` of its devices.

    ``number`` is that of this device, and ``generation`` that of what was last written to it.
    """

    uuid: str
    count: int
    number: int
    generation: int


def superblock(device: str) -> Superblock:
    """The superblock of a device of a btrfs.

    :raises CommandError: when there is none that is whole.
    """
    return run(["btrfs", "inspect-internal", "dump-super", device], timeout=60.0).read(superblock_of)


def superblock_of(output: str) -> Superblock:
    """The superblock in what ``btrfs inspect-internal dump-super`` says.

    :raises ValueError: when that is something else.
    """
    said: dict[str, str] = {}
    for line in output.splitlines():
        key, _, value = line.partition("\t")
        said.setdefault(key, value.strip())
    try:
        numbers = [int(said[key]) for key in ("num_devices", "dev_item.devid", "generation")]
        return Superblock(said["fsid"], *numbers)
    except KeyError as error:
        raise ValueError(f"no {error}") from None


def profiles(device: str, *, beside: Sequence[str] = ()) -> tuple[str, str]:
    """The profiles of data and of metadata, such as ``raid1``; several with a comma where they are mixed.

    :param beside: its other devices.
    :raises CommandError: when they cannot be read.
    """
    argv = ["btrfs", "inspect-internal", "dump-tree", "--noscan", "-t", "chunk", device, *beside]
    return run(argv, timeout=60.0).read(profiles_of)


def profiles_of(output: str) -> tuple[str, str]:
    """The profiles in what ``btrfs inspect-internal dump-tree -t chunk`` says.

    :raises ValueError: when that is something else.
    """
    if not output.startswith("btrfs-progs ") or "\nchunk tree" not in output:
        raise ValueError("no chunk tree")
    found: dict[str, set[str]] = {"DATA": set(), "METADATA": set()}
    for line in output.split("\n"):
        if chunk := _CHUNK.match(line):
            kinds = chunk[1].split("|")
            profile = next((x.lower() for x in kinds if x not in ("DATA", "METADATA", "SYSTEM")), "single")
            for kind in found.keys() & set(kinds):
                found[kind].add(profile)
    data, metadata = (", ".join(sorted(found[kind])) for kind in ("DATA", "METADATA"))
    return data or "none", metadata or "none"


def scan(devices: Sequence[str]) -> None:
    """Tell the kernel of all devices of a btrfs, so that it can be mounted by one of them. It writes nothing."""
    run(["btrfs", "device", "scan", *devices])


def forget(devices: Sequence[str]) -> None:
    """Have the kernel forget what it was told of devices that nobody has mounted, if it was.

    It would take what is made there under the same UUID for parts of what was there.
    """
    for device in devices:  # it stops at the first that it does not know
        run(["btrfs", "device", "scan", "--forget", device], ok=(0, 1))


def at_top(device: str, *, beside: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of the subvolumes in the top folder of a btrfs, sorted. Nothing is mounted, and nothing written.

    :param beside: its other devices.
    :raises CommandError: when it cannot be read, as one of which devices are missing.
    """
    argv = ["btrfs", "inspect-internal", "dump-tree", "--noscan", "-t", "root", device, *beside]
    return run(argv, timeout=60.0).read(names)


def names(output: str) -> tuple[str, ...]:
    """The names in what ``btrfs inspect-internal dump-tree -t root`` says.

    :raises ValueError: when that is something else.
    """
    if not output.startswith("btrfs-progs ") or "\nroot tree" not in output:
        raise ValueError("no root tree")
    found, parent = [], ""
    for line in output.split("\n"):
        if item := _REFERENCE.match(line):
            parent = item[1]
        elif named := _NAMED.match(line):
            if parent in ("FS_TREE", str(_TOP)) and int(named[1]) == _TOP_FOLDER:
                found.append(named[2])
            parent = ""
    return tuple(sorted(found))


def create(path: str) -> None:
    """Make a subvolume, empty, in a btrfs that is mounted."""
    run(["btrfs", "subvolume", "create", path])


def delete(path: str) -> None:
    """Take a subvolume away with all that is in it, but for subvolumes: with one of those it stays, and this fails.

    :raises CommandError: also then.
    """
    run(["btrfs", "subvolume", "delete", "--commit-after", path], timeout=600.0)


def set_default(path: str) -> None:
    """Have a subvolume mounted where none is named."""
    run(["btrfs", "subvolume", "set-default", path])


def set_default_to_top(top: str) -> None:
    """Have the top itself mounted where no subvolume is named: what is the default cannot be taken away."""
    run(["btrfs", "subvolume", "set-default", str(_TOP), top])
