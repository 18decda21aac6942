# SPDX-License-Identifier: Apache-2.0
"""Debian trees made by mmdebstrap, slimmed to what a virtual node can use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tests_functional.bench.process import run

#: The list of files left out of every tree.
EXCLUDED = Path(__file__).with_name("excluded.txt")
#: Seconds; a cold mirror on a slow machine is several times slower than what was measured (90 s).
BUILD_LIMIT = 1800.0


def make_tree(
    suite: str, packages: Sequence[str], target: Path, *, hooks: Sequence[str] = ()
) -> None:
    """Install a minimal Debian ``suite`` with ``packages`` into the directory ``target``.

    :param hooks: mmdebstrap customize hooks, shell commands in which ``$1`` is the tree
    :raises ProgramError: with mmdebstrap's own last words
    """
    run(
        [
            "mmdebstrap",
            "--variant=minbase",
            "--quiet",
            f"--include={','.join(packages)}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in _excluded()),
            *(f"--customize-hook={hook}" for hook in hooks),
            suite,
            target,
        ],
        timeout=BUILD_LIMIT,
        env=_environment(),
    )


def _excluded() -> list[str]:
    lines = EXCLUDED.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _environment() -> dict[str, str]:
    """Return the caller's environment less its locale, which the new tree does not have."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    # INITRD=No: the kernel package would make an initramfs before the tree is complete. Who wants
    # one makes it in a hook.
    return kept | {"LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "INITRD": "No"}
