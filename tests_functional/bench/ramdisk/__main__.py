# SPDX-License-Identifier: Apache-2.0
"""Builds the deploy ramdisk: ``python -m tests_functional.bench.ramdisk [--output DIR]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests_functional.bench.process import ProgramError
from tests_functional.bench.ramdisk import build


def main() -> int:
    """Build, and say where the files are."""
    parser = argparse.ArgumentParser(prog="ramdisk", description="Build the deploy ramdisk.")
    parser.add_argument("--output", type=Path, help="a directory to copy the files to")
    arguments = parser.parse_args()
    try:
        ramdisk = build(lambda line: print(line, flush=True))
    except ProgramError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.output:
        ramdisk.copy_to(arguments.output)
    place = arguments.output or ramdisk.kernel.parent
    print(f"bareon=={ramdisk.version}: {place / 'vmlinuz'} and {place / 'initramfs'}")
    print(f"root's SSH key: {ramdisk.key}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
