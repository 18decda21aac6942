# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration. ``sphinx-build -W -n doc/source doc/build/html`` builds the documentation."""

import sys
from pathlib import Path

_DOC = Path(__file__).parents[1]
sys.path[:0] = [str(_DOC / "ext"), str(_DOC), str(_DOC.parent)]

import pains  # noqa: E402 -- it is beside this folder

pains.page()  # a pain without a test or a reason ends the build

project = "bareon"
author = "The bareon developers"
copyright = "The bareon developers, Apache License 2.0"

extensions = ["sphinx.ext.autodoc", "bareon_reference", "node_templates"]
exclude_patterns = ["examples"]
nitpicky = True
nitpick_ignore_regex = [
    # Without the network there is no index of the standard library; and docstrings may use short names.
    (r"py:.*", r"(?!bareon\.).*"),
    # What is not for plug-ins is mentioned, but has no page.
    (r"py:.*", r"bareon\.(decide|look|cmd\..*|drivers\.data\.volume|layout\..*|storage\.kinds)"),
    (r"py:.*", r"bareon\.storage\.kind\.[DF]"),  # type variables
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # the bases have a page, and say it once

_FORMS = ("partition", "configdrive", "copyimage", "bootloader", "reboot")
man_pages = [
    ("man/bareon-provision", "bareon-provision", "deploy this node", author, 8),
    *(("man/bareon-provision", f"bareon-{name}", "one stage of a deployment", author, 8) for name in _FORMS),
    ("man/bareon-provision", "bareon-verify", "compare this node with its input", author, 8),
    ("man/bareon-boot", "bareon-boot", "choose the image that boots", author, 8),
    ("man/bareon-ironic-callback", "bareon-ironic-callback", "tell Ironic of this ramdisk", author, 8),
    ("man/bareon-ramdisk-network", "bareon-ramdisk-network", "set up the network of the ramdisk", author, 8),
    ("man/bareon-ramdisk-trust", "bareon-ramdisk-trust", "prepare the ramdisk for connections", author, 8),
    ("man/bareon-unattended", "bareon-unattended", "deploy this node without anybody", author, 8),
    ("man/bareon-data-validator", "bareon-data-validator", "check an input of bareon", author, 1),
    ("man/bareon-report", "bareon-report", "make a page of a report of bareon", author, 1),
]
man_show_urls = True

html_theme = "alabaster"
html_theme_options = {
    "description": "Puts operating systems onto bare metal.",
    "fixed_sidebar": True,
    "page_width": "1080px",
    "sidebar_width": "240px",
}
html_show_sourcelink = False
