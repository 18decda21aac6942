# SPDX-License-Identifier: Apache-2.0
"""The bench serves other projects: their tests lie elsewhere, and know of it what the documentation says."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from building import wheel
from building.process import run

EXAMPLE = wheel.CHECKOUT / "examples/bench-user"
#: Seconds, with a ramdisk that boots.
LIMIT = 300.0


def test_a_project_beside_this_one(tmp_path: Path) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "other")
    (folder / "pytest.ini").write_text("[pytest]\n")
    outside = {name: value for name, value in os.environ.items() if not name.startswith("BAREON_CELL")}
    environment = outside | {"PYTHONPATH": str(wheel.CHECKOUT)}
    command = [sys.executable, "-m", "pytest", "-p", "tests_functional.conftest", "--cells", "1"]
    done = run(command, cwd=folder, env=environment, timeout=LIMIT)
    assert "1 passed" in done.stdout
    assert "test_machine" in done.stdout.partition("functional cases")[2]
