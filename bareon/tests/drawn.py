# SPDX-License-Identifier: Apache-2.0
"""How many cases the tests try that draw them.

A tenth of the number finds what a change breaks within seconds; the rare cases are for ``--thorough``, which ``make
test-all`` gives.
"""

from __future__ import annotations

_SHARE = 10
_thorough = False


def be_thorough(thorough: bool) -> None:
    """Say whether all cases are wanted, before the modules of the tests are imported."""
    global _thorough
    _thorough = thorough


def cases(number: int) -> int:
    """How many of ``number`` cases to try in this run."""
    return number if _thorough else number // _SHARE
