# SPDX-License-Identifier: Apache-2.0
"""md arrays: mdadm(8)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bareon.run import run
from bareon.sizes import KIB

PROGRAMS = ("mdadm",)


@dataclass(frozen=True)
class Array:
    """An array as mdadm reports it. ``name`` is without ``homehost``, the name of the host it was made for."""

    uuid: str
    name: str
    level: str
    count: int
    homehost: str | None = None


@dataclass(frozen=True)
class State:
    """State of an array that runs, by the kernel; Documentation/admin-guide/md.rst.

    ``metadata`` is the version of its superblocks, ``missing`` the number of places without a member in step. Of
    its devices, by the kernel's names, those ``in_step`` hold all they should, those ``rebuilt`` will, ``spare``
    stand by. ``task`` is what goes on; ``reshape`` also where that is interrupted. ``percent`` of it are done.
    """

    metadata: str | None = None
    bitmap: bool | None = None
    missing: int = 0
    in_step: tuple[str, ...] = ()
    rebuilt: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    task: str | None = None
    percent: int | None = None


def state(folder: Path) -> State:
    """The state of an array by its ``folder`` in sysfs, such as ``/sys/block/md127/md``; the defaults if it stops."""
    devices = {path.name.removeprefix("dev-").replace("!", "/"): path for path in sorted(folder.glob("dev-*"))}
    states = {f"/dev/{name}": _word(path / "state").split(",") for name, path in devices.items()}
    placed = {f"/dev/{name}" for name, path in devices.items() if _word(path / "slot").isdigit()}
    bitmap, missing = _word(folder / "bitmap/location"), _word(folder / "degraded")
    task = _word(folder / "sync_action")
    if _word(folder / "reshape_position") not in ("", "none"):  # also one that is read-only, and does not go on
        task = "reshape"
    return State(
        metadata=_word(folder / "metadata_version") or None,
        bitmap=bitmap != "none" if bitmap else None,
        missing=int(missing) if missing.isdigit() else 0,
        in_step=tuple(name for name, words in states.items() if "in_sync" in words and name in placed),
        rebuilt=tuple(name for name, words in states.items() if "spare" in words and name in placed),
        spare=tuple(name for name, words in states.items() if "spare" in words and name not in placed),
        task=task if task not in ("", "idle", "frozen") else None,
        percent=_percent(_word(folder / "sync_completed")),
    )


def _word(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text().strip()
    return ""


def _percent(completed: str) -> int | None:
    """``24576 / 102400``, in sectors, as whole percents."""
    done, _, total = completed.partition(" / ")
    return int(done) * 100 // int(total) if done.isdigit() and total.isdigit() and int(total) else None


def detail(device: str) -> Array | None:
    """An active array; ``None`` where mdadm cannot say, as for one that is being stopped."""
    result = run(["mdadm", "--detail", "--export", device], ok=(0, 1, 4))
    return result.read(parse)


def examine(device: str) -> Array | None:
    """The array that a member belongs to, by its superblock; ``None`` where it is damaged."""
    return run(["mdadm", "--examine", "--export", device], ok=(0, 1)).read(parse)


def parse(output: str) -> Array | None:
    """The array in the output of ``mdadm --export``."""
    found = dict(line.partition("=")[::2] for line in output.splitlines() if "=" in line)
    if "MD_UUID" not in found or "MD_LEVEL" not in found:
        return None
    host, _, name = found.get("MD_NAME", "").rpartition(":")
    name = (name or found.get("MD_DEVNAME") or found["MD_UUID"]).rpartition(":")[2]
    count = found.get("MD_DEVICES", "")
    return Array(
        uuid=found["MD_UUID"],
        name=name,
        level=found["MD_LEVEL"],
        count=int(count) if count.isdigit() else 0,
        homehost=host or None,
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
    *,
    metadata: str = "1.2",
    bitmap: bool = True,
    homehost: str = "any",
) -> None:
    """Make an array and start it. ``data_offset``, ``component`` and ``chunk`` are bytes."""
    argv = ["mdadm", "--create", device, "--run", f"--metadata={metadata}", f"--homehost={homehost}"]
    argv += [f"--name={name}", f"--level={level.removeprefix('raid')}", f"--uuid={uuid}"]
    if metadata != "1.0":  # which is behind the data
        argv += [f"--data-offset={data_offset // KIB}K"]
    if level != "raid0":
        argv += [f"--size={component // KIB}K", f"--bitmap={'internal' if bitmap else 'none'}"]
    if level != "raid1":
        argv += [f"--chunk={chunk // KIB}K"]
    if level in ("raid4", "raid5"):
        # Else one of the members begins as a spare that is rebuilt: the array is degraded for as long, and with other
        # spares beside it the kernel takes any of them.
        argv.append("--force")
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
