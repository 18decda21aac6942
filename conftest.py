# SPDX-License-Identifier: Apache-2.0
"""What the unit tests and the functional tests have in common: the option that tells the tiers apart."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of ``make test-all``."""
    parser.addoption(
        "--thorough",
        action="store_true",
        help="unit tests: draw ten times as many cases; functional tests: run also what is left out by default"
        " (what -k or a test's name asks for is never left out)",
    )
