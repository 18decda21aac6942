# SPDX-License-Identifier: Apache-2.0
"""What is said of defects that a schema finds: hints at what a key was meant to be, and limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bareon.drivers.data.ironic import Ironic
from bareon.errors import InvalidInput

VOLUME = {"type": "partition", "mount": "/", "size": "1 GiB"}


@pytest.mark.parametrize(
    ("more", "ends"),
    [
        # Keys of old documents have no effect, and whoever took one for the other would not see it.
        ({"erase": "zero"}, 'unknown key "erase"'),
        ({"labels": "x"}, "unknown key \"labels\", did you mean 'disk_label'?"),
        ({"disc_label": "x"}, "unknown key \"disc_label\", did you mean 'disk_label'?"),
        ({"extra": [], "mout": "/"}, "unknown key \"mout\", did you mean 'mount'?"),
    ],
)
def test_no_hint_leads_to_a_key_without_effect(more: dict[str, Any], ends: str) -> None:
    disk = {"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": [VOLUME | more]}
    with pytest.raises(InvalidInput) as caught:
        Ironic().parse(json.dumps({"partitions": [disk]}).encode())
    assert [line for line in caught.value.lines() if line.endswith(ends)], caught.value.lines()


def test_a_list_that_is_too_long_is_counted_and_not_quoted() -> None:
    subvolumes = [{"name": f"s{x}"} for x in range(257)]
    volume = {"type": "partition", "size": "1 GiB", "file_system": "btrfs", "subvolumes": subvolumes}
    disk = {"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": [volume]}
    with pytest.raises(InvalidInput) as caught:
        Ironic().parse(json.dumps({"partitions": [disk]}).encode())
    assert caught.value.lines() == ["$.partitions[0].volumes[0].subvolumes: has 257 items, more than 256"]
