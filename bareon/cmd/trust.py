# SPDX-License-Identifier: Apache-2.0
"""bareon-ramdisk-trust: lets in whom the kernel's command line names, sets the clock, and learns whom to trust."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bareon.cmd.exit import guarded

PROGRAM = "bareon-ramdisk-trust"
USAGE = "Admits the keys of bareon.sshkey=, sets the clock (bareon.ntp=, DHCP), adds the authorities of bareon.ca=."
_WRONG = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Admit keys and set the clock."""
    return guarded(PROGRAM, lambda: _body(list(sys.argv[1:] if argv is None else argv)))


def _body(argv: list[str]) -> None:
    import argparse

    from bareon import console
    from bareon.trust.prepare import prepare

    parser = argparse.ArgumentParser(PROGRAM, description=USAGE)
    parser.add_argument(
        "--root", type=Path, default=Path("/"), help="the folder with proc, etc, root and run; for tests"
    )
    parser.add_argument("--version", action="store_true", help="print the version, and stop")
    found = parser.parse_args(argv)
    if found.version:
        from bareon.version import version

        sys.stdout.write(f"{PROGRAM} {version()}\n")
        return
    say = lambda line: console.tell(f"{PROGRAM}: {line}", found.root)  # noqa: E731
    if not prepare(found.root, say, lambda seconds: time.clock_settime(time.CLOCK_REALTIME, seconds)):
        raise SystemExit(_WRONG)
