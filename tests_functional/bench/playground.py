# SPDX-License-Identifier: Apache-2.0
"""A node to try things on: the ramdisk, the template's disks, and the session's image servers."""

from __future__ import annotations

from contextlib import suppress

from building.cache import Report
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.imageserver import ImageServers
from tests_functional.bench.products import Products
from tests_functional.bench.session import Session, wait_for_enter
from tests_functional.bench.template import Template


def run(name: str, report: Report) -> int:
    """Bring up a node of a template, wait until somebody presses Enter, and return the exit code.

    :raises ValueError: when there is no such template
    """
    template = Template.load(name)
    products = Products.received()
    with (
        ImageServers(products.images, SCRATCH, report) as images,
        Session(products, images, report) as session,
        session.node_in_ramdisk(template, template.disks, "playground") as node,
    ):
        report(f"images: {session.rsync.url}/debian12/ and others, see tests_functional/cases/README.rst")
        with suppress(KeyboardInterrupt):
            wait_for_enter(node)
    return 0
