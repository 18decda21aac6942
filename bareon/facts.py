# SPDX-License-Identifier: Apache-2.0
"""Node facts as JSON: ``--dump_node_facts`` prints :func:`to_json` of them, ``--node_facts`` reads them back.

The form is described in ``doc/source/reference/node-facts.rst``. Each kind of storage has a section of it.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from bareon.model.node import FORMAT, NodeFacts
from bareon.storage.kind import Found
from bareon.storage.kinds import sections

LARGEST = 64 << 20  # bytes of a document; what is longer is cut off, and so no JSON
SECTORS = tuple(512 << power for power in range(8))
"""Bytes of a logical sector that the kernel's block layer knows."""


def to_json(facts: NodeFacts) -> dict[str, Any]:
    """``facts`` as JSON values; :func:`from_json` is its inverse."""
    found = {kind.section: [x for x in facts.structures if type(x) is kind.found] for kind in sections()}
    return {
        "firmware": facts.firmware,
        "disks": [dataclasses.asdict(disk) for disk in facts.disks],
        **{
            kind.section: [dataclasses.asdict(x) for x in found[kind.section]]
            for kind in sections()
            if kind.always or found[kind.section]
        },
        **({"secure_boot": dataclasses.asdict(facts.secure_boot)} if facts.secure_boot else {}),
        **({"uses": [dataclasses.asdict(x) for x in facts.uses]} if facts.uses else {}),
        **({"firmware_bits": facts.firmware_bits} if facts.firmware_bits else {}),
        **({"hardware": dataclasses.asdict(facts.hardware)} if facts.hardware else {}),
        "cmdline": facts.cmdline,
        "format": facts.format,
    }


def from_json(value: object) -> NodeFacts:
    """Read back what :func:`to_json` gave.

    :raises ValueError: naming the place, when ``value`` is not of that form.
    """
    if not isinstance(value, dict):
        raise ValueError("$: expected an object")
    if value.get("format") != FORMAT:
        raise ValueError(f"$.format: this bareon reads format {FORMAT}, not {value.get('format')!r}")
    forms = {kind.section: kind.found for kind in sections()}
    structures: list[Found] = []
    for section, form in forms.items():
        found = _decode(tuple[form, ...], value.get(section, ()), f"$.{section}")  # type: ignore[valid-type]
        assert isinstance(found, tuple)
        structures += found
    rest = {key: item for key, item in value.items() if key not in forms}
    facts = _decode_object(NodeFacts, rest, "$", left_out=("structures",))
    assert isinstance(facts, NodeFacts)
    facts = dataclasses.replace(facts, structures=tuple(structures))
    for path, device, right in _plausible(facts):
        if not (device.startswith("/dev/") and device.isprintable()) or {".", ".."} & set(device.split("/")):
            raise ValueError(f"{path}.device: {device!r} is no path in /dev")
        if not right:
            raise ValueError(f"{path}: no device has such a size, sector size, start or number")
    return facts


def _plausible(facts: NodeFacts) -> Iterator[tuple[str, str, bool]]:
    """Each device with its JSON path, and whether its figures can be those of one."""
    for number, disk in enumerate(facts.disks):
        path = f"$.disks[{number}]"
        yield path, disk.device, disk.size >= 0 and disk.logical_sector in SECTORS and disk.physical_sector > 0
        for place, part in enumerate(disk.partitions):
            yield f"{path}.partitions[{place}]", part.device, part.number > 0 and part.start >= 0 and part.size >= 0
    for kind in sections():
        for number, found in enumerate(x for x in facts.structures if type(x) is kind.found):
            for inner, device, right in found.plausible:
                yield f"$.{kind.section}[{number}]{inner}", device, right


def _decode(form: Any, value: object, path: str) -> object:
    origin = typing.get_origin(form)
    if dataclasses.is_dataclass(form):
        return _decode_object(form, value, path)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{path}: expected a list")
        item = typing.get_args(form)[0]
        return tuple(_decode(item, x, f"{path}[{i}]") for i, x in enumerate(value))
    if origin in (types.UnionType, typing.Union):
        inner = next(x for x in typing.get_args(form) if x is not type(None))
        return None if value is None else _decode(inner, value, path)
    if origin is Literal:
        if value not in typing.get_args(form):
            raise ValueError(f"{path}: expected one of {', '.join(typing.get_args(form))}")
        return value
    if type(value) is not form:
        raise ValueError(f"{path}: expected {form.__name__}, found {type(value).__name__}")
    return value


_type_hints = functools.cache(typing.get_type_hints)  # a node has many disks


def _decode_object(form: Any, value: object, path: str, left_out: tuple[str, ...] = ()) -> object:
    if not isinstance(value, dict):
        raise ValueError(f"{path}: expected an object")
    hints = _type_hints(form)
    if unknown := sorted(set(value) - (set(hints) - set(left_out))):
        raise ValueError(f"{path}.{unknown[0]}: unknown key")
    for field in dataclasses.fields(form):
        if field.name not in value and field.default is dataclasses.MISSING:
            raise ValueError(f"{path}.{field.name}: missing")
    return form(**{key: _decode(hints[key], item, f"{path}.{key}") for key, item in value.items()})
