# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for grub-probe(8) and grub-mkrelpath(1), which ``grub-mkconfig`` of an image asks.

It sees none of its devices, and nobody tells it which subvolume is mounted where.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bareon.model.layout import Layout
from bareon.storage.filesystem import TYPES, Mounted
from bareon.tools import lvm

_NAMES = ("grub-probe", "grub2-probe")
_RELATIVE = ("grub-mkrelpath", "grub2-mkrelpath")
_FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")

#: GRUB searches for UUIDs without hints where to look first. A file system of bareon's is encrypted by no kind.
_NOTHING = ("compatibility_hint", "hints_string", "bios_hints", "efi_hints", "baremetal_hints", "cryptodisk_uuid")

_HEAD = """#!/bin/sh
# Written by bareon: what grub-probe says of the file systems of this image, to a grub-mkconfig without any device.
refuse () {
  echo "grub-probe: error: $1." >&2
  exit 1
}
named= target=fs what=
while [ $# -gt 0 ]; do
  case $1 in
    -d | --device) named=yes ;;
    -t | --target) target=$2; [ $# -lt 2 ] || shift ;;
    -t*) target=${1#-t} ;;
    --target=*) target=${1#--target=} ;;
    -v | --verbose) ;;
    -*) refuse "no option $1 here" ;;
    *) [ -z "$what" ] || refuse "more than one device or path"; what=$1 ;;
  esac
  shift
done
"""

_ANSWERS = """case $target in
  device) printf '%s\\n' "$device" ;;
  fs) printf '%s\\n' "$fs" ;;
  fs_uuid) printf '%s\\n' "$fs_uuid" ;;
  fs_label) printf '%s\\n' "$fs_label" ;;
  partuuid) printf '%s\\n' "$partuuid" ;;
  partmap) echo gpt ;;
  abstraction) for module in $abstraction; do echo "$module"; done ;;
  {nothing}) ;;
  *) refuse "bareon does not know $target of $what" ;;
esac
"""


_PATH = """#!/bin/sh
# Written by bareon: where GRUB, which begins at the top of a file system, finds a path of this image.
what=
refuse () {
  echo "grub-mkrelpath: error: $1." >&2
  exit 1
}
while [ $# -gt 0 ]; do
  case $1 in
    -*) refuse "no option $1 here" ;;
    *) what=$1 ;;
  esac
  shift
done
place=$(readlink -f -- "$what") && [ -e "$place" ] || refuse "there is no $what"
case $place/ in
"""


@dataclass(frozen=True)
class Volume:
    """A file system of an image as GRUB knows it, or a subvolume of it with the path ``above``, mounted at ``point``.

    ``names`` are those of its device, the one that GRUB itself uses first. ``abstraction`` are the modules by which
    it reads the device, lowest first; ``partuuid`` is empty where that is no partition.
    """

    point: str
    names: tuple[str, ...]
    fs: str
    uuid: str
    label: str = ""
    partuuid: str = ""
    abstraction: tuple[str, ...] = ()
    above: str = ""


def volumes(mounts: Sequence[Mounted], layout: Layout) -> tuple[Volume, ...]:
    """The file systems that are mounted in the tree of an image."""
    return tuple(_volume(x, layout) for x in mounts)


def _volume(mounted: Mounted, layout: Layout) -> Volume:
    device = mounted.device
    logical = {x.device for group in layout.aggregates if group.kind.name == "lvm" for x in group.devices}
    names = [lvm.mapper_device(device), device] if device in logical else [device]
    guids = {part.device: part.guid.lower() for disk in layout.disks for part in disk.partitions}
    module = TYPES[mounted.type].grub_module or mounted.type
    below = (x for x in layout.system(mounted.filesystem).grub_modules if x != module)
    return Volume(
        mounted.point,
        tuple(dict.fromkeys([*names, os.path.realpath(device), f"/dev/disk/by-uuid/{mounted.uuid}"])),
        module,
        mounted.uuid,
        mounted.filesystem.label or "",
        guids.get(device, ""),
        tuple(below)[::-1],
        mounted.above,
    )


def script(found: Sequence[Volume]) -> str:
    """The script, for the file systems of one image, of which one is mounted at ``/``."""
    return "".join([_HEAD, *_choice(found), *_values(found), _ANSWERS.format(nothing=" | ".join(_NOTHING))])


def _choice(found: Sequence[Volume]) -> Iterator[str]:
    """Which file system is asked for: by a name of its device, or by a path on it."""
    yield 'if [ -n "$named" ]; then\n  case $what in\n'
    for number, volume in enumerate(found):
        yield f"    {' | '.join(map(shlex.quote, volume.names))}) number={number} ;;\n"
    yield '    *) refuse "$what is no device of this image" ;;\n  esac\nelse\n'
    yield '  place=$(readlink -f -- "$what") && [ -e "$place" ] || refuse "there is no $what"\n'
    yield '  case $place/ in\n    /dev/* | /proc/* | /run/* | /sys/*) refuse "$what is on no device" ;;\n'
    for number, volume in sorted(enumerate(found), key=lambda x: len(x[1].point), reverse=True):
        yield f"    {shlex.quote(volume.point.rstrip('/') + '/')}*) number={number} ;;\n"
    yield "  esac\nfi\n"


def _values(found: Sequence[Volume]) -> Iterator[str]:
    yield "case $number in\n"
    for number, volume in enumerate(found):
        values = {
            "device": volume.names[0],
            "fs": volume.fs,
            "fs_uuid": volume.uuid,
            "fs_label": volume.label,
            "partuuid": volume.partuuid,
            "abstraction": " ".join(volume.abstraction),
        }
        yield f"  {number}) {' '.join(f'{name}={shlex.quote(value)}' for name, value in values.items())} ;;\n"
    yield "esac\n"


def paths(found: Sequence[Volume]) -> str:
    """The script that stands in for grub-mkrelpath, for the file systems of one image."""
    lines = [_PATH]
    for volume in sorted(found, key=lambda x: len(x.point), reverse=True):
        point = volume.point.rstrip("/")
        lines.append(
            f"  {shlex.quote(f'{point}/')}*) point={shlex.quote(point)} above={shlex.quote(volume.above)} ;;\n"
        )
    return "".join([*lines, 'esac\nrest=${place#"$point"}\n', "printf '%s\\n' \"$above${rest%/}\"\n"])


def stand_ins(found: Sequence[Volume]) -> dict[str, str]:
    """The scripts by each place where a system may have a program of theirs.

    Where all file systems are mounted by their tops, the image's own grub-mkrelpath is right.
    """
    texts = dict.fromkeys(_NAMES, script(found))
    if any(x.above for x in found):
        texts |= dict.fromkeys(_RELATIVE, paths(found))
    return {f"{folder}/{name}": text for folder in _FOLDERS for name, text in texts.items()}
