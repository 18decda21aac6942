# SPDX-License-Identifier: Apache-2.0
"""Directives that render what bareon knows of itself, so that the reference has no second source.

``.. bareon-options:: DRIVERS INPUT`` lists groups of options of :mod:`bareon.conf`.
``.. bareon-schema:: ironic.json`` lists every field of a schema with its description, type and values.
``.. bareon-features::`` lists the features of file systems, with the first kernel and GRUB that read them.
``.. bareon-mkfs-options::`` lists the options that ``mkfs_options`` may have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from oslo_config import cfg
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import bareon.conf
from bareon.storage import mkfsoptions, reader


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
    """Every object of a schema: of an input, or of something that bareon writes."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        places = (Path(bareon.__file__).parent / folder / self.arguments[0] for folder in _SCHEMAS)
        path = next(place for place in places if place.exists())
        self.env.note_dependency(str(path))
        text = "\n".join(_schema(json.loads(path.read_text()), path.stem))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


_SCHEMAS = ("drivers/data/schemas", "report/schemas")


def _schema(schema: Mapping[str, Any], prefix: str) -> Iterator[str]:
    yield from _object("The document", schema, schema, f"{prefix}-document", prefix)
    for name, definition in schema.get("$defs", {}).items():
        if _is_object(definition):
            yield from _object(name, definition, schema, f"{prefix}-{name}", prefix)


def _is_object(value: Mapping[str, Any]) -> bool:
    return bool(value.get("type") == "object")


def _object(title: str, value: Mapping[str, Any], root: Mapping[str, Any], label: str, prefix: str) -> Iterator[str]:
    title = title.replace("_", " ")
    yield from (f".. _{label}:", "", title, "-" * len(title), "", _plain(value.get("description", "")), "")
    kinds = list(_kinds(value, root, prefix))
    yield from kinds or _properties(value, root, prefix, "")


def _kinds(value: Mapping[str, Any], root: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """For an object whose form hangs on its ``type``: the form of each."""
    for rule in value.get("allOf", ()):
        if "if" in rule and "$ref" in rule.get("then", {}):
            kind = rule["if"]["properties"]["type"]
            words = kind.get("enum") or [kind["const"]]
            names = " or ".join(_literal(json.dumps(word)) for word in words)
            yield from (f"* with the ``type`` {names}: {_type(rule['then'], root, prefix)}", "")


def _properties(value: Mapping[str, Any], root: Mapping[str, Any], prefix: str, above: str) -> Iterator[str]:
    """The fields of an object; those of an object inside it follow it, as ``deploy_data.kernel_params``."""
    unused: dict[str, list[str]] = {}
    for name, field in value.get("properties", {}).items():
        if said := next((text for mark, text in _UNUSED.items() if field.get(mark)), None):
            unused.setdefault(said, []).append(_literal(above + name))
            continue
        facts = [_type(field, root, prefix)]
        if name in value.get("required", ()):
            facts.insert(0, "**required**")
        description = field.get("description") or _resolved(field, root).get("description", "")
        yield from (_literal(above + name), f"    {_plain(description)}", "", f"    {', '.join(facts)}", "")
        yield from _properties(field, root, prefix, f"{above}{name}.")
    for said, names in unused.items():
        yield from (", ".join(names), f"    {said}", "")


def _resolved(field: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = root["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
    return found


def _type(field: Mapping[str, Any], root: Mapping[str, Any], prefix: str) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        if _is_object(_resolved(field, root)):
            return f":ref:`{name} <{prefix}-{name}>`"
        return _type(_resolved(field, root), root, prefix)
    if "anyOf" in field:
        return " or ".join(_type(part, root, prefix) for part in field["anyOf"])
    if "enum" in field:
        words = [_literal(json.dumps(x)) for x in field["enum"]]
        return f"one of {', '.join(words)}" if len(words) > 1 else words[0]
    if "const" in field:
        return _literal(json.dumps(field["const"]))
    kinds = field.get("type", "any value")
    text = " or ".join(_KINDS.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))
    if "items" in field:
        text += f" of {_type(field['items'], root, prefix)}"
    if isinstance(others := field.get("additionalProperties"), dict):
        text += f", each key with {_type(others, root, prefix)}"
    if (most := field.get("maximum")) is not None:
        text += f", {field.get('minimum', 0)} to {most}"
    if field.get("minItems"):
        text += ", not empty"
    if pattern := field.get("x-pattern"):
        text += f": {_plain(pattern)}"
    if most := field.get("maxLength"):
        text += f", at most {most} characters"
    return text


class Features(SphinxDirective):
    """The features that an mkfs turns on by itself, and the first programs that read them."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(reader.__file__)
        return self.parse_text_to_nodes("\n".join(_features()))


def _features() -> Iterator[str]:
    yield from (".. list-table::", "   :header-rows: 1", "")
    rows = [["File system", "Feature", "Linux", "GRUB"]]
    for kind, features in reader.FEATURES.items():
        for x in features:
            grub = reader.Reader("GRUB", x.grub).number if x.grub else "any"
            rows.append([kind, _literal(x.name), reader.Reader("Linux", x.linux).number, grub])
    for first, *others in rows:
        yield from (f"   * - {first}", *(f"     - {cell}" for cell in others))


class MkfsOptions(SphinxDirective):
    """The options of each mkfs that an input may give."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(mkfsoptions.__file__)
        return self.parse_text_to_nodes("\n".join(_mkfs_options()))


def _mkfs_options() -> Iterator[str]:
    kinds: dict[tuple[str, ...], list[str]] = {}
    for kind, options in mkfsoptions.ALLOWED.items():
        kinds.setdefault(tuple(_mkfs_option(name, x) for name, x in options.items()), []).append(kind)
    for words, alike in kinds.items():
        yield from (", ".join(map(_literal, alike)), f"    {', '.join(words)}", "")


def _mkfs_option(name: str, option: mkfsoptions.Option) -> str:
    words = ", ".join(map(_literal, option.words or ()))
    return f"{_literal(name)} ({words})" if words else _literal(name)


_UNUSED = {"deprecated": "Accepted and ignored, with a warning.", "x-without-effect": "Accepted, and without effect."}
_KINDS = {"array": "list", "boolean": "``true`` or ``false``", "integer": "whole number"}


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("bareon-options", Options)
    app.add_directive("bareon-schema", Schema)
    app.add_directive("bareon-features", Features)
    app.add_directive("bareon-mkfs-options", MkfsOptions)
    return {"parallel_read_safe": True}
