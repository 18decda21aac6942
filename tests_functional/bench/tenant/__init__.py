# SPDX-License-Identifier: Apache-2.0
"""Tenant images: the operating systems that tests deploy, as directory trees."""

from tests_functional.bench.tenant import dracut, entries, golden, hostile, multipath, poor, sealed, thin, unified
from tests_functional.bench.tenant.build import SYSTEMS, Tenant, build

__all__ = [
    "SYSTEMS",
    "Tenant",
    "build",
    "dracut",
    "entries",
    "golden",
    "hostile",
    "multipath",
    "poor",
    "sealed",
    "thin",
    "unified",
]
