# SPDX-License-Identifier: Apache-2.0
"""bareon-data-validator: checks a provision file on any machine, touching no hardware."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bareon.cmd.exit import guarded

PROGRAM = "bareon-data-validator"
USAGE = "Checks a provision file: its form, and everything that can be known without the node."


def main(argv: Sequence[str] | None = None) -> int:
    """Check one file."""
    return guarded(PROGRAM, lambda: _body(list(sys.argv[1:] if argv is None else argv)))


def _body(argv: list[str]) -> None:
    import argparse

    from bareon.cmd import source

    parser = argparse.ArgumentParser(PROGRAM, description=USAGE)
    parser.add_argument("--data_driver", "--data-driver", default="ironic", help="a name in bareon.drivers.data")
    parser.add_argument(
        "--deploy_driver",
        "--deploy-driver",
        help="check the images for that, too: auto, rsync, swift, or another plug-in",
    )
    parser.add_argument("--template_path", "--template-path", help="a folder of templates for the configdrive")
    parser.add_argument("--version", action="store_true", help="print the version, and stop")
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="the file; - is standard input")
    found = parser.parse_args(argv)
    if found.version:
        from bareon.version import version

        sys.stdout.write(f"{PROGRAM} {version()}\n")
        return
    deployment, warnings = source.understand(found.data_driver, source.read(found.file), found.template_path)
    if found.deploy_driver:  # which takes half as long again to load
        source.check_images(deployment, found.deploy_driver)
    source.warn(warnings)
    sys.stdout.write(f"{found.file}: no defects\n")
