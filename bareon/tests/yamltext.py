# SPDX-License-Identifier: Apache-2.0
"""YAML as files of tests have it: what is short on one line, a text of many lines as it is."""

from __future__ import annotations

from typing import Any

import yaml


class Block(list[Any]):
    """A list with a line for each item."""


class Lines(dict[str, Any]):
    """A mapping with a line for each key."""


class _Dumper(yaml.SafeDumper):
    """Writes innermost lists and mappings on one line, but for those of the two classes above."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def text(self, value: str) -> yaml.ScalarNode:
        style = "|" if "\n" in value and not value.endswith("\n\n") else None
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    def block(self, value: Block) -> yaml.SequenceNode:
        return self.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=not value)

    def lines(self, value: Lines) -> yaml.MappingNode:
        return self.represent_mapping("tag:yaml.org,2002:map", value, flow_style=False)

    def mapping(self, value: dict[str, Any]) -> yaml.MappingNode:
        long = any(isinstance(item, str) and "\n" in item for item in value.values())
        return self.represent_mapping("tag:yaml.org,2002:map", value, flow_style=False if long else None)


_Dumper.add_representer(str, _Dumper.text)
_Dumper.add_representer(dict, _Dumper.mapping)
_Dumper.add_representer(Block, _Dumper.block)
_Dumper.add_representer(Lines, _Dumper.lines)


def dumped(data: Any) -> str:
    """The text of a file."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=9999, default_flow_style=None)
