# SPDX-License-Identifier: Apache-2.0
"""The one point in time that a build knows: with it, the same sources give the same bytes whenever they are built.

It is ``$SOURCE_DATE_EPOCH`` where that is set, as https://reproducible-builds.org/specs/source-date-epoch/ has it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from building.process import run

VARIABLE = "SOURCE_DATE_EPOCH"


def epoch(checkout: Path, paths: Sequence[Path] = ()) -> int:
    """Return the date of a build in seconds since 1970: when the last commit of any of ``paths`` was written.

    The author's date, and not the committer's: a commit that is moved to another branch has the same.

    :raises ProgramError: when the checkout is none of git's
    """
    if given := os.environ.get(VARIABLE):
        return int(given)
    done = run(["git", "log", "-1", "--format=%at", "--", *paths], timeout=60, cwd=checkout)
    # Nothing of it is committed yet.
    return int(done.stdout.strip() or "0") or epoch(checkout)


def environment(seconds: int) -> dict[str, str]:
    """Return the caller's environment with the date in it, for programs that write dates into what they make."""
    return {**os.environ, VARIABLE: str(seconds), "TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}
