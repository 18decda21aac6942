# SPDX-License-Identifier: Apache-2.0
"""Cases as data: one YAML file says what is given, what is run and what must come of it.

``tests_functional/cases/README.rst`` describes the format. A key that is not known is an error, so
that a misspelt expectation does not pass for a fulfilled one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from tests_functional.bench.template import DiskSpec, Template, size_in_bytes
from tests_functional.bench.word import Words, fill

CASES = Path(__file__).resolve().parents[1] / "cases"
DEFAULT_COMMAND = "bareon-provision --data_driver ironic --deploy_driver rsync --progress plain"
#: Seconds for the command under test.
DEFAULT_TIMEOUT = 600


class CaseError(Exception):
    """A case file that does not follow the format."""


@dataclass(frozen=True)
class Look:
    """A command run on the node, and what it must print; patterns are searched for."""

    run: str
    stdout: tuple[str, ...] = ()
    exit_code: int = 0


@dataclass(frozen=True)
class Expectation:
    """What the node must look like in the ramdisk, once the command has ended."""

    partitions: Mapping[str, Sequence[Mapping[str, Any]]]
    file_systems: Mapping[str, Mapping[str, str]]
    commands: tuple[Look, ...]


@dataclass(frozen=True)
class Round:
    """One more boot of the deployed node, ``without`` some of its disks, and what it must look like then."""

    without: tuple[str, ...]
    booted: tuple[Look, ...]


@dataclass(frozen=True)
class Case:
    """One case, its words in braces filled in."""

    name: str
    description: str
    template: Template
    disks: tuple[DiskSpec, ...]
    before: tuple[str, ...]
    input_text: str
    command: str
    timeout: float
    exit_code: int
    stdout: tuple[str, ...]
    stdout_json: Any
    stderr: tuple[str, ...]
    unchanged: tuple[str, ...]
    expect: Expectation
    boot: bool
    booted: tuple[Look, ...]
    rounds: tuple[Round, ...]


#: Keys of a case file besides those of :class:`Case` that go by the same name.
KEYS = frozenset(
    {
        *("description", "node", "before", "input", "input_text", "command", "timeout"),
        *("exit_code", "stdout", "stdout_json", "stderr", "disks_unchanged", "expect"),
        *("boot", "booted", "rounds", "thorough", "pains"),
    }
)


def find(kind: str) -> list[Path]:
    """Return the case files of ``positive`` or ``negative``, in order."""
    return sorted((CASES / kind).glob("*.yaml"))


def boots(path: Path) -> bool:
    """Tell whether a case boots what it deploys; a file that cannot be read fails as a case."""
    return bool(_peek(path, "boot"))


def thorough(path: Path) -> str | None:
    """Return why a case is left to ``make test-all``, or None for one of ``make test``."""
    why = _peek(path, "thorough")
    return str(why) if why else None


def _peek(path: Path, key: str) -> Any:
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError:
        return None
    return data.get(key) if isinstance(data, dict) else None


def load(path: Path, words: Words) -> Case:
    """Read a case file, putting values in the place of words such as ``{rsync}``.

    :raises CaseError: naming the file and what is wrong in it
    """
    try:
        return _parse(path.stem, yaml.safe_load(fill(path.read_text(), words)))
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise CaseError(f"{path}: {error}") from error


def _parse(name: str, data: dict[str, Any]) -> Case:
    _known(data, KEYS, "a case")
    if "input" in data and "input_text" in data:
        raise ValueError("input and input_text exclude each other")
    template, disks = machine(data.get("node", "two_disks"))
    targets = tuple(disk.target for disk in disks)
    unchanged = data.get("disks_unchanged", False)
    booted = _looks(data.get("booted", ()))
    rounds = _rounds(data.get("rounds", ()), targets)
    if (booted or rounds) and not data.get("boot"):
        raise ValueError("booted and rounds need boot: true")
    return Case(
        name=name,
        description=" ".join(data["description"].split()),
        template=template,
        disks=disks,
        before=tuple(data.get("before", ())),
        input_text=data.get("input_text") or json.dumps(data.get("input", {}), indent=2),
        command=" ".join(data.get("command", DEFAULT_COMMAND).split()),
        timeout=float(data.get("timeout", DEFAULT_TIMEOUT)),
        exit_code=int(data.get("exit_code", 0)),
        stdout=_patterns(data.get("stdout", ())),
        stdout_json=data.get("stdout_json"),
        stderr=_patterns(data.get("stderr", ())),
        unchanged=(targets if unchanged else ()) if isinstance(unchanged, bool) else tuple(unchanged),
        expect=_expectation(data.get("expect", {})),
        boot=bool(data.get("boot", False)),
        booted=booted,
        rounds=rounds,
    )


def _known(data: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    unknown = sorted(set(data) - known)
    if unknown:
        raise ValueError(f"{what} has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")


def machine(data: str | Mapping[str, Any]) -> tuple[Template, tuple[DiskSpec, ...]]:
    if isinstance(data, str):
        template = Template.load(data)
        return template, template.disks
    _known(data, frozenset({"template", "disks"}), "node")
    template = Template.load(data.get("template", "two_disks"))
    return template, tuple(_disks(data["disks"]))


def _disks(entries: Sequence[Mapping[str, Any]]) -> list[DiskSpec]:
    counts: dict[str, int] = {}
    disks = []
    for entry in entries:
        _known(entry, frozenset({"size", "bus", "serial", "sector", "properties", "wwn", "paths"}), "a disk")
        bus = entry.get("bus", "virtio")
        prefix = {"virtio": "vd", "scsi": "sd", "sata": "sd", "nvme": "nvme"}[bus]
        number, paths = counts.get(prefix, 0), int(entry.get("paths", 1))
        counts[prefix] = number + paths
        targets = [f"nvme{number}n1" if bus == "nvme" else prefix + chr(ord("a") + number + x) for x in range(paths)]
        serial = entry.get("serial", f"BAREON-{targets[0]}".upper())
        sector = int(entry.get("sector", 512))
        properties = tuple((str(name), int(value)) for name, value in entry.get("properties", {}).items())
        hardware = (bus, serial, size_in_bytes(entry["size"]), sector, properties, str(entry.get("wwn", "")))
        shared = targets[0] if paths > 1 else ""
        disks += [DiskSpec(target, *hardware, shared, other) for other, target in enumerate(targets)]
    return disks


def _patterns(data: str | Sequence[str]) -> tuple[str, ...]:
    return (data,) if isinstance(data, str) else tuple(data)


def _looks(entries: Sequence[Mapping[str, Any]]) -> tuple[Look, ...]:
    looks = []
    for entry in entries:
        _known(entry, frozenset(field.name for field in fields(Look)), "a command")
        patterns = _patterns(entry.get("stdout", ()))
        looks.append(Look(entry["run"], patterns, int(entry.get("exit_code", 0))))
    return tuple(looks)


def _rounds(entries: Sequence[Mapping[str, Any]], disks: Sequence[str]) -> tuple[Round, ...]:
    rounds = []
    for entry in entries:
        _known(entry, frozenset(field.name for field in fields(Round)), "a round")
        without = tuple(entry.get("without", ()))
        if unknown := sorted(set(without) - set(disks)):
            raise ValueError(f"a round without {', '.join(unknown)}, which the node does not have")
        rounds.append(Round(without, _looks(entry["booted"])))
    return tuple(rounds)


def _expectation(data: Mapping[str, Any]) -> Expectation:
    _known(data, frozenset(field.name for field in fields(Expectation)), "expect")
    return Expectation(
        data.get("partitions", {}),
        data.get("file_systems", {}),
        _looks(data.get("commands", ())),
    )
