# SPDX-License-Identifier: Apache-2.0
"""Keys of files that tests read: one that is not known may be a misspelt expectation, which could never fail."""

from __future__ import annotations

from collections.abc import Iterable


def known(data: Iterable[str], keys: Iterable[str], what: str) -> None:
    """See that ``data`` has no keys but those.

    :raises ValueError: naming those that it has.
    """
    if unknown := sorted(set(data) - set(keys)):
        raise ValueError(f"{what}: unknown: {', '.join(unknown)}; there are: {', '.join(keys)}")
