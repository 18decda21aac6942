# SPDX-License-Identifier: Apache-2.0
"""bareon-boot in the ramdisk: runs the script of the deployed images, which finds its partition by label."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bareon.cmd.exit import guarded
from bareon.text import visible


def main(argv: Sequence[str] | None = None) -> int:
    """List the images of the node, or switch between them."""
    words = list(sys.argv[1:] if argv is None else argv)
    code = 0

    def body() -> None:
        nonlocal code
        if set(words) & {"list", "status", "switch", "confirm", "refresh"}:
            code = _on_the_node(words)
        else:
            code = _script(words)

    return guarded("bareon-boot", body) or code


def _on_the_node(words: Sequence[str]) -> int:
    from bareon.cmd.lock import node_lock

    with node_lock():  # a run may be writing to the same partition
        return _script(words)


def _script(words: Sequence[str]) -> int:
    from bareon.boot.bareon_boot import script
    from bareon.run import run

    done = run(["sh", "-s", "--", *words], stdin=script(), ok=range(256))
    # The list lies where root of each deployed image can write.
    sys.stdout.write(visible(done.stdout, "\n"))
    sys.stderr.write(visible(done.stderr, "\n"))
    return done.code
