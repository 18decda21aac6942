# SPDX-License-Identifier: Apache-2.0
"""Builds the deploy ramdisk: ``python -m ramdisk [--architecture NAME] [--profile NAME] [--output DIR]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bareon.callback.key import public
from building.process import ProgramError
from ramdisk import again, build, outputs, parameters
from ramdisk.base import build_base
from ramdisk.machine import MACHINES, USUAL
from ramdisk.profile import PROFILES


def main() -> int:
    """Build, and say where the files are."""
    parser = argparse.ArgumentParser(prog="ramdisk", description="Build the deploy ramdisk.")
    parser.add_argument("--output", type=Path, help="a directory for all files, media among them")
    parser.add_argument("--ssh_key", type=Path, help="a public key that lets root in; default: none")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="small", help="which packages; default: small")
    parser.add_argument("--architecture", choices=sorted(MACHINES), default=USUAL, help=f"default: {USUAL}")
    parser.add_argument("--firmware", action="store_true", help="with firmware and microcode that are not free")
    parser.add_argument(
        "--append", default="", metavar="WORDS", help="kernel parameters for the ISO and iPXE's script"
    )
    parser.add_argument(
        "--twice", action="store_true", help="build all of it once more, from nothing, and compare byte for byte"
    )
    arguments = parser.parse_args()
    if arguments.firmware and not PROFILES[arguments.profile].firmware:
        parser.error(f"the profile {arguments.profile} has no firmware")
    try:
        line = parameters.line(arguments.append, MACHINES[arguments.architecture].consoles)
        key = _public(arguments.ssh_key.read_text()) if arguments.ssh_key else None
        if arguments.twice and (found := again.difference(lambda x: _build(arguments, key, line, x)[0], _say)):
            print(f"two builds differ: {found}", file=sys.stderr)
            return 1
        _, place = _build(arguments, key, line, arguments.output)
    except (OSError, ValueError, ProgramError) as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.twice:
        print("two builds gave the same bytes")
    print(f"the ramdisk is in {place}")
    if key is None:
        print("nobody can log in: no --ssh_key was given")
    return 0


def _public(text: str) -> str:
    """The keys of a file in the form of authorized_keys(5), without their comments: all may read a ramdisk.

    :raises ValueError: when a line is no public key, as in the file of the private one.
    """
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    try:
        return "".join(f"{public(line)}\n" for line in lines)
    except ValueError as error:
        raise ValueError(f"--ssh_key: a line {error}") from None


def _build(arguments: argparse.Namespace, key: str | None, line: str, target: Path | None) -> tuple[Path, Path]:
    """Build; return the product of the base, and where the ramdisk is."""
    profile, firmware, architecture = arguments.profile, arguments.firmware, arguments.architecture
    ramdisk = build(_say, key, profile, firmware=firmware, architecture=architecture)
    base = build_base(_say, profile, firmware=firmware, architecture=architecture)
    if target:
        outputs.write(base, ramdisk, line, target, _say)
    return base, target or ramdisk.kernel.parent


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
