# SPDX-License-Identifier: Apache-2.0
"""``/etc/crypttab`` of a deployed image."""

from __future__ import annotations

from bareon.system import crypttab


def test_lines_of_others_are_kept_and_ours_are_replaced() -> None:
    first = crypttab.render(["data UUID=1 none luks"], "# swap anew\nswap /dev/vdz /dev/urandom swap\n")
    assert first.splitlines()[1:] == [
        "data UUID=1 none luks",
        "# swap anew",
        "swap /dev/vdz /dev/urandom swap",
    ]
    again = crypttab.render(["data UUID=2 none luks"], first)
    assert again == first.replace("UUID=1", "UUID=2")
