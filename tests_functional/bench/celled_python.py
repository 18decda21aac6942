# SPDX-License-Identifier: Apache-2.0
"""A Python interpreter in a cell of its own: the workers that pytest-xdist starts.

``python -m tests_functional.bench.celled_python ARGUMENTS`` is ``python ARGUMENTS`` in a cell.
"""

from __future__ import annotations

import os
import sys

from tests_functional.bench import cell


def main() -> None:
    """Become the interpreter; nothing is left between it and who asked for it."""
    command = cell.command([sys.executable, *sys.argv[1:]])
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
