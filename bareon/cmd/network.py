# SPDX-License-Identifier: Apache-2.0
"""bareon-ramdisk-network: sets up the network of the deploy ramdisk by the kernel's command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bareon.cmd.exit import guarded

if TYPE_CHECKING:
    import argparse

PROGRAM = "bareon-ramdisk-network"
USAGE = "Sets up the network of the deploy ramdisk by ip=, bond=, vlan= and the like on the kernel's command line."
_WRONG = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Set the network up, take a word of dhcpcd, or listen for neighbours."""
    return guarded(PROGRAM, lambda: _body(list(sys.argv[1:] if argv is None else argv)))


def _body(argv: list[str]) -> None:
    from bareon import console
    from bareon.network import setup

    found = _options(argv)
    if found.listen:
        from bareon.network.listen import listen

        listen(found.root)
    elif found.answer:
        setup.learn(found.root, os.environ)
    elif not setup.set_up(found.root, lambda line: console.tell(f"{PROGRAM}: {line}", found.root)):
        raise SystemExit(_WRONG)


def _options(argv: list[str]) -> argparse.Namespace:
    import argparse

    parser = argparse.ArgumentParser(PROGRAM, description=USAGE)
    parser.add_argument("--answer", action="store_true", help="take what dhcpcd has learned from the environment")
    parser.add_argument("--listen", action="store_true", help="listen for LLDP until the process is ended")
    parser.add_argument(
        "--root", type=Path, default=Path("/"), help="the folder with proc, sys, etc and run; for tests"
    )
    parser.add_argument("--version", action="store_true", help="print the version, and stop")
    found = parser.parse_args(argv)
    if found.version:
        from bareon.version import version

        sys.stdout.write(f"{PROGRAM} {version()}\n")
        raise SystemExit(0)
    return found
