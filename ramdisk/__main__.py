# SPDX-License-Identifier: Apache-2.0
"""Builds the deploy ramdisk: ``python -m ramdisk [--ssh_key FILE] [--output DIR]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from building.process import ProgramError
from ramdisk import build


def main() -> int:
    """Build, and say where the files are."""
    parser = argparse.ArgumentParser(prog="ramdisk", description="Build the deploy ramdisk.")
    parser.add_argument("--output", type=Path, help="a directory to copy the files to")
    parser.add_argument("--ssh_key", type=Path, help="a public key that lets root in; default: none")
    arguments = parser.parse_args()
    try:
        key = arguments.ssh_key.read_text() if arguments.ssh_key else None
        ramdisk = build(lambda line: print(line, flush=True), key)
    except (OSError, UnicodeDecodeError, ProgramError) as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.output:
        ramdisk.copy_to(arguments.output)
    place = arguments.output or ramdisk.kernel.parent
    print(f"bareon=={ramdisk.version}: {place / 'vmlinuz'} and {place / 'initramfs'}")
    if key is None:
        print("nobody can log in: no --ssh_key was given")
    return 0


if __name__ == "__main__":
    sys.exit(main())
