# SPDX-License-Identifier: Apache-2.0
"""The version of the installed package."""

from __future__ import annotations

import importlib.metadata


def version() -> str:
    """As pip shows it."""
    return importlib.metadata.version("bareon")
