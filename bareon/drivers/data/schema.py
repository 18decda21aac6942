# SPDX-License-Identifier: Apache-2.0
"""The JSON Schemas of the dialects.

That of the ironic dialect is put together: ``schemas/ironic.base.json`` has what concerns no kind of storage, each
kind has the entries and keys that are its own. The file ``schemas/ironic.json`` is published, and made from this by
``doc/regenerate.py``.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from typing import Any

from bareon.drivers.data.volume import LEGACY
from bareon.storage import erase
from bareon.storage.filesystem import TYPES
from bareon.storage.kind import Fragment
from bareon.storage.kinds import KINDS

_IRONIC = "ironic.json"
_BEHIND = {"disk_rule": "entry", "volume": "volume", "lv_entry": "lv_entry"}
"""Behind which definition those of the entries of a list come."""


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """The schema of a dialect, by its file name."""
    return _ironic() if name == _IRONIC else _read(name)


def _read(name: str) -> dict[str, Any]:
    text = importlib.resources.files("bareon.drivers.data").joinpath("schemas", name).read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def _ironic() -> dict[str, Any]:
    whole = _read("ironic.base.json")
    whole["$defs"]["disk"]["properties"] |= {"erase": erase.SCHEMA, **_legacy()}
    whole["$defs"]["file_system"]["enum"] = list(TYPES)
    definitions: dict[str, Any] = {}
    for name, definition in whole["$defs"].items():
        definitions[name] = definition
        for fragment in _fragments(_BEHIND.get(name)):
            listed = whole["$defs"][fragment.list_of]
            listed["properties"]["type"]["enum"] += fragment.types
            if fragment.schema.get("properties"):
                listed["allOf"].append(_branch(fragment))
            definitions[fragment.name] = _whole(fragment)
    return {**whole, "$defs": definitions}


def _fragments(list_of: str | None) -> list[Fragment]:
    """The fragments of all kinds for one list, in the order of their names, what is deprecated last."""
    found = [x for kind in KINDS for x in kind.fragments if x.list_of == list_of]
    return sorted(found, key=lambda x: (x.schema.get("deprecated", False), x.name))


def _branch(fragment: Fragment) -> dict[str, Any]:
    """The condition that an entry of one of the types matches the fragment."""
    types = {"type": {"enum": list(fragment.types)}}
    return {"if": {"properties": types, "required": ["type"]}, "then": {"$ref": f"#/$defs/{fragment.name}"}}


def _whole(fragment: Fragment) -> dict[str, Any]:
    """The schema of a fragment with the keys that other kinds, and old documents, have in it."""
    found = dict(fragment.schema)
    if "properties" in found:
        found["properties"] = dict(found["properties"])
        for kind in KINDS:
            found["properties"] |= kind.keys(fragment.name)
        found["properties"] |= _legacy()
    return found


def _legacy() -> dict[str, Any]:
    return {key: {"description": "Accepted and ignored.", "deprecated": True} for key in LEGACY}
