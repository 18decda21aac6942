# SPDX-License-Identifier: Apache-2.0
"""Debian trees made by mmdebstrap, slimmed to what a virtual node can use."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from building.process import run

#: The list of files left out of every tree.
EXCLUDED = Path(__file__).with_name("excluded.txt")
#: Seconds; a cold mirror on a slow machine is several times slower than what was measured (90 s).
BUILD_LIMIT = 1800.0
#: Makes the links of a merged /usr. Debian 12 would have its package usrmerge do it, which brings Perl, 47 MB.
MERGED_USR = "/usr/share/mmdebstrap/hooks/maybe-merged-usr"
#: Whatever ends this process ends all that mmdebstrap started, and its mounts with it.
_CONTAINED = (
    *("setpriv", "--pdeathsig=KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
)


def make_tree(
    suite: str,
    packages: Sequence[str],
    target: Path,
    *,
    excluded: Sequence[str] = (),
    included: Sequence[str] = (),
    initramfs: bool = False,
) -> None:
    """Install a minimal Debian ``suite`` with ``packages`` into the directory ``target``.

    :param excluded: dpkg path patterns of files to leave out besides :data:`EXCLUDED`
    :param included: patterns of files to take all the same
    :param initramfs: let the kernel package make its initramfs
    :raises ProgramError: with mmdebstrap's own last words
    """
    run(
        [
            *_CONTAINED,
            "mmdebstrap",
            "--variant=minbase",
            "--quiet",
            f"--hook-directory={MERGED_USR}",
            f"--include={','.join(packages)}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in both_places((*read_patterns(), *excluded))),
            *(f"--dpkgopt=path-include={pattern}" for pattern in both_places(included)),
            suite,
            target,
        ],
        timeout=BUILD_LIMIT,
        env=_environment(initramfs),
    )


def both_places(patterns: Iterable[str]) -> list[str]:
    """Return patterns with ``/lib`` for both names that packages have for it: from Debian 13 on ``/usr/lib``."""
    return [place + pattern for pattern in patterns for place in ("", "/usr") if not place or pattern[:5] == "/lib/"]


def read_patterns() -> list[str]:
    """Return the patterns of :data:`EXCLUDED`."""
    lines = EXCLUDED.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _environment(initramfs: bool) -> dict[str, str]:
    """Return the caller's environment less its locale, which the new tree does not have."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    choice = {} if initramfs else {"INITRD": "No"}
    return kept | {"LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"} | choice
