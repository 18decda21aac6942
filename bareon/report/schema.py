# SPDX-License-Identifier: Apache-2.0
"""The published forms of what bareon writes: JSON Schemas."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

from bareon.errors import Defect, InvalidInput
from bareon.storage import filesystem, gpt
from bareon.storage.kinds import KINDS, sections


@functools.cache
def published(name: str) -> dict[str, Any]:
    """The schema of ``report`` or ``event``.

    That of a report is put together: ``schemas/report.base.json`` has what concerns no kind of storage, each kind has
    its sections of the plan and the node facts. The file ``schemas/report.json`` is published, and made from this by
    ``doc/regenerate.py``.
    """
    return _report() if name == "report" else _read(name)


def _read(name: str) -> dict[str, Any]:
    text = importlib.resources.files("bareon.report").joinpath("schemas", f"{name}.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def _report() -> dict[str, Any]:
    whole = _read("report.base")
    definitions: dict[str, Any] = {}
    for name, definition in whole["$defs"].items():
        definitions[name] = definition
        if name == "partition":
            definition["properties"]["role"]["examples"] = [*gpt.KIND.roles, *_other_roles()]
            _add(definition, filesystem.planned_fields())
            for kind in sections():
                definitions |= kind.plan_schema
    for kind in sections():
        definitions |= kind.facts_schema
        for holder, schemas, what in (("plan", kind.plan_schema, "The"), ("node", kind.facts_schema, "All")):
            definition = definitions[holder]
            description = f"{what} {kind.about_section}."
            item = {"$ref": f"#/$defs/{next(iter(schemas))}"}
            section = {kind.section: {"description": description, "type": "array", "items": item}}
            _add(definition, section, required=kind.always)
    return {**whole, "$defs": definitions}


def _other_roles() -> list[str]:
    """Roles of partitions that come from their content, in alphabetical order."""
    return sorted(role for kind in KINDS if kind is not gpt.KIND for role in kind.roles)


_LAST = ("differences", "cmdline", "decision")


def _add(definition: dict[str, Any], fields: Mapping[str, Any], *, required: bool = True) -> None:
    """Add properties to those of an object."""
    definition["properties"] = _behind(definition["properties"], fields)
    if required:
        definition["required"] = list(_behind(dict.fromkeys(definition["required"]), dict.fromkeys(fields)))


def _behind(there: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The keys with new ones behind those so far, before what is always the last."""
    at = next(number for number, key in enumerate(there) if key in _LAST)
    items = list(there.items())
    return dict([*items[:at], *new.items(), *items[at:]])


def check(value: object, name: str) -> None:
    """Compare ``value`` with a published schema.

    :raises InvalidInput: with every defect.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    # Of something that may also be null, only what is inside it says what is wrong.
    errors = [best_match([error]) for error in Draft202012Validator(published(name)).iter_errors(value)]
    if defects := [Defect(error.json_path, error.message[:200]) for error in errors if error]:
        raise InvalidInput(defects)
