# SPDX-License-Identifier: Apache-2.0
"""Pieces of JSON Schema, draft 2020-12, of which the kinds of storage make their fragments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LARGEST = 1 << 63

Schema = Mapping[str, Any]


def string(description: str) -> Schema:
    """A text."""
    return {"description": description, "type": "string"}


def optional_string(description: str) -> Schema:
    """A text, or null."""
    return {"description": description, "type": ["string", "null"]}


def boolean(description: str) -> Schema:
    """True or false."""
    return {"description": description, "type": "boolean"}


def count(description: str, *, optional: bool = False) -> Schema:
    """A number of bytes or of things; with ``optional`` also null."""
    form: str | list[str] = ["integer", "null"] if optional else "integer"
    return {"description": description, "type": form, "minimum": 0, "maximum": _LARGEST}


def items(description: str, item: str | None = None) -> Schema:
    """A list of things of the definition ``item``, or of texts."""
    of = {"$ref": f"#/$defs/{item}"} if item else {"type": "string"}
    return {"description": description, "type": "array", "items": of}


def record(description: str, properties: Mapping[str, Schema]) -> Schema:
    """An object of which all the ``properties`` are there."""
    return {
        "description": description,
        "type": "object",
        "required": list(properties),
        "properties": dict(properties),
    }


def optional_record(description: str, properties: Mapping[str, Schema]) -> Schema:
    """Such an object, or null."""
    return {**record(description, properties), "type": ["object", "null"]}


CONTENT: Schema = {"description": "What is in it.", "anyOf": [{"$ref": "#/$defs/content"}, {"type": "null"}]}
"""A signature that was found, or null."""

DECISION: Schema = {
    "description": "create, format (only the file system is made anew) or keep.",
    "enum": ["create", "format", "keep"],
}
