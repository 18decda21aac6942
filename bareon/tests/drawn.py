# SPDX-License-Identifier: Apache-2.0
"""How many cases the tests try that draw them.

A tenth of the number finds what a change breaks within seconds; the rare cases are for ``--thorough``, which ``make
test-all`` gives.
"""

from __future__ import annotations

import contextlib

import pytest

_SHARE = 10
_thorough = False


def add_option(parser: pytest.Parser) -> None:
    """Add the option that tells the tiers apart, to the unit tests and the functional ones, which may run as one."""
    with contextlib.suppress(ValueError):  # the other ones have added it
        parser.addoption(
            "--thorough",
            action="store_true",
            help="unit tests: draw ten times as many cases; functional tests: run also what is left out by default"
            " (what -k or a test's name asks for is never left out)",
        )


def be_thorough(thorough: bool) -> None:
    """Say whether all cases are wanted, before the modules of the tests are imported."""
    global _thorough
    _thorough = thorough


def cases(number: int) -> int:
    """How many of ``number`` cases to try in this run."""
    return number if _thorough else number // _SHARE
