# SPDX-License-Identifier: Apache-2.0
"""The SSH key pair with which the bench enters ramdisks and tenants."""

from __future__ import annotations

from pathlib import Path

from building import cache
from building.process import run

PRIVATE = "id_ed25519"


def key_pair() -> Path:
    """Return the private key's path, made once per cache; the public one is beside it."""

    def build(target: Path) -> None:
        run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bareon", "-f", target / PRIVATE],
            timeout=60,
        )

    # It takes no time worth a report.
    return cache.product("key", "client", build, lambda _line: None) / PRIVATE
