# SPDX-License-Identifier: Apache-2.0
"""md arrays: mdadm(8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bareon.run import run
from bareon.sizes import KIB

PROGRAMS = ("mdadm",)


@dataclass(frozen=True)
class Array:
    """An array as mdadm reports it. ``name`` is without the name of the host it was made on."""

    uuid: str
    name: str
    level: str
    count: int


def detail(device: str) -> Array | None:
    """An active array; ``None`` where mdadm cannot say, as for one that is being stopped."""
    result = run(["mdadm", "--detail", "--export", device], ok=(0, 1, 4))
    return parse(result.stdout)


def examine(device: str) -> Array | None:
    """The array that a member belongs to, by its superblock; ``None`` where it is damaged."""
    return parse(run(["mdadm", "--examine", "--export", device], ok=(0, 1)).stdout)


def parse(output: str) -> Array | None:
    """The array in the output of ``mdadm --export``."""
    found = dict(line.partition("=")[::2] for line in output.splitlines() if "=" in line)
    if "MD_UUID" not in found or "MD_LEVEL" not in found:
        return None
    name = found.get("MD_NAME") or found.get("MD_DEVNAME") or found["MD_UUID"]
    count = found.get("MD_DEVICES", "")
    return Array(
        uuid=found["MD_UUID"],
        name=name.rpartition(":")[2],
        level=found["MD_LEVEL"],
        count=int(count) if count.isdigit() else 0,
    )


def create(
    device: str,
    name: str,
    level: str,
    uuid: str,
    members: Sequence[str],
    data_offset: int,
    component: int,
    chunk: int,
    spares: Sequence[str] = (),
) -> None:
    """Make an array and start it. ``data_offset``, ``component`` and ``chunk`` are bytes."""
    argv = ["mdadm", "--create", device, "--run", "--metadata=1.2", "--homehost=any", f"--name={name}"]
    argv += [f"--level={level.removeprefix('raid')}", f"--uuid={uuid}", f"--data-offset={data_offset // KIB}K"]
    if level != "raid0":
        argv += [f"--size={component // KIB}K", "--bitmap=internal"]
    if level != "raid1":
        argv += [f"--chunk={chunk // KIB}K"]
    if spares and level in ("raid4", "raid5"):
        argv.append("--force")  # else one of the members begins as a spare, and the kernel takes any of them for it
    argv += [f"--raid-devices={len(members)}", *([f"--spare-devices={len(spares)}"] if spares else [])]
    run([*argv, *members, *spares])


def assemble(device: str, uuid: str, members: Sequence[str], *, read_only: bool = False) -> None:
    """Start an array that is there; ``read_only`` writes nothing to its members."""
    # --run: also with members missing, as a mirror does after the loss of a disk.
    how = ["--readonly", "--run"] if read_only else ["--run"]
    run(["mdadm", "--assemble", device, f"--uuid={uuid}", *how, *members])


def stop(device: str) -> None:
    """Stop an array; its members keep all they hold."""
    run(["mdadm", "--stop", device])
