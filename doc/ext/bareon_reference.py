# SPDX-License-Identifier: Apache-2.0
"""Directives that render what bareon knows of itself, so that the reference has no second source.

``.. bareon-options:: DRIVERS INPUT`` lists groups of options of :mod:`bareon.conf`.
``.. bareon-schema:: ironic.json`` lists every field of an input schema with its description, type and values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from docutils import nodes
from oslo_config import cfg
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import bareon.conf
from bareon.drivers.data import document


def _plain(text: str) -> str:
    """``text`` with everything escaped that reStructuredText would interpret."""
    return re.sub(r"([\\*`_|])", r"\\\1", text)


def _literal(text: str) -> str:
    return f"``{text}``"


class Options(SphinxDirective):
    """The options of one or more groups, by their names in :mod:`bareon.conf`."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(bareon.conf.__file__)
        groups = self.arguments[0].split()
        lines = [line for group in groups for option in getattr(bareon.conf, group) for line in _option(option)]
        return self.parse_text_to_nodes("\n".join(lines))


def _option(option: cfg.Opt) -> Iterator[str]:
    value = "" if isinstance(option, cfg.BoolOpt) else f" {option.metavar or option.name.upper()}"
    about = [_plain(option.help)]
    if choices := getattr(option.type, "choices", None):
        about.append(f"One of {', '.join(map(_literal, choices))}.")
    if isinstance(option, cfg.BoolOpt):
        about.append("Default: off.")
    elif option.default is not None:
        about.append(f"Default: {_literal(option.default)}.")
    yield from (_literal(f"--{option.name}{value}"), f"    {' '.join(about)}", "")


class Schema(SphinxDirective):
    """Every object of a schema of ``bareon/drivers/data/schemas``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        self.env.note_dependency(f"{document.__file__.rpartition('/')[0]}/schemas/{name}")
        text = "\n".join(_schema(document.schema(name), name.removesuffix(".json")))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _schema(schema: Mapping[str, Any], prefix: str) -> Iterator[str]:
    yield from _object("The document", schema, schema, f"{prefix}-document", prefix)
    for name, definition in schema.get("$defs", {}).items():
        yield from _object(name, definition, schema, f"{prefix}-{name}", prefix)


def _object(title: str, value: Mapping[str, Any], root: Mapping[str, Any], label: str, prefix: str) -> Iterator[str]:
    yield from (f".. _{label}:", "", title, "-" * len(title), "", _plain(value.get("description", "")), "")
    if "properties" not in value:
        yield from (f"Type: {_type(value, prefix)}.", "")
    yield from _properties(value, root, prefix, "")
    for rule in value.get("allOf", ()):
        if description := rule.get("description"):
            yield from (_plain(description), "")


def _properties(value: Mapping[str, Any], root: Mapping[str, Any], prefix: str, above: str) -> Iterator[str]:
    """The fields of an object; those of an object inside it follow it, as ``deploy_data.kernel_params``."""
    old = []
    for name, field in value.get("properties", {}).items():
        if field.get("deprecated"):
            old.append(_literal(above + name))
            continue
        facts = [_type(field, prefix)]
        if name in value.get("required", ()):
            facts.insert(0, "**required**")
        description = field.get("description") or _resolved(field, root).get("description", "")
        yield from (_literal(above + name), f"    {_plain(description)}", "", f"    {', '.join(facts)}", "")
        yield from _properties(field, root, prefix, f"{above}{name}.")
    if old:
        yield from (", ".join(old), "    Accepted and ignored, with a warning.", "")


def _resolved(field: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = root["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
    return found


def _type(field: Mapping[str, Any], prefix: str) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f":ref:`{name} <{prefix}-{name}>`"
    for key, word in (("oneOf", "either"), ("anyOf", "any of")):
        if key in field:
            return f"{word} {' or '.join(_type(x, prefix) for x in field[key])}"
    if "enum" in field:
        return f"one of {', '.join(_literal(json.dumps(x)) for x in field['enum'])}"
    if "const" in field:
        return _literal(json.dumps(field["const"]))
    kinds = field.get("type", "any value")
    words = [_KINDS.get(kind, kind) for kind in (kinds if isinstance(kinds, list) else [kinds])]
    text = " or ".join(words)
    if "items" in field:
        text += f" of {_type(field['items'], prefix)}"
    if field.get("minItems"):
        text += ", not empty"
    if pattern := field.get("x-pattern"):
        text += f"; {_plain(pattern)}"
    if most := field.get("maxLength"):
        text += f"; at most {most} characters"
    return text


_KINDS = {"array": "list", "boolean": "``true`` or ``false``"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("bareon-options", Options)
    app.add_directive("bareon-schema", Schema)
    return {"parallel_read_safe": True}
