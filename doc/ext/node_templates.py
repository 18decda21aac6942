# SPDX-License-Identifier: Apache-2.0
"""Sphinx directive ``bareon-node-templates``: the machines of the functional tests, from their own files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

TEMPLATES = Path(__file__).parents[2] / "tests_functional/node_templates"


class NodeTemplates(SphinxDirective):
    """Renders the name of each template, and the comment it begins with."""

    def run(self) -> list[nodes.Node]:
        listed = nodes.definition_list()
        for path in sorted(TEMPLATES.glob("*.xml")):
            self.env.note_dependency(str(path))
            said = re.match(r"<!-- (.+?) -->", path.read_text(), re.DOTALL)
            if not said:
                raise self.error(f"{path.name} does not begin with a comment")
            listed += nodes.definition_list_item(
                "",
                nodes.term("", "", nodes.literal("", path.stem)),
                nodes.definition("", nodes.paragraph("", " ".join(said[1].split()))),
            )
        return [listed]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("bareon-node-templates", NodeTemplates)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
