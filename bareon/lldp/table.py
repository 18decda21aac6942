# SPDX-License-Identifier: Apache-2.0
"""Who was heard at which port: kept by the one who listens, in a file that everybody may read."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bareon.atomic import replacing
from bareon.lldp.unit import Announcement
from bareon.model.hardware import NeighbourFacts, VlanFacts

PLACE = Path("run/bareon-network/neighbours.json")
#: Neighbours of one port that are kept: a hub has several, and who invents them must not fill the memory.
MOST = 8


class Table:
    """The neighbours that were heard, by their ports; ``root`` is the folder with ``run``.

    Each is known by its chassis and port, and forgotten when the time is over that it has named itself. Times are
    those of :func:`time.monotonic`, which does not jump when the clock is set, and is the same in all processes.
    """

    def __init__(self, root: Path) -> None:
        self._file = root / PLACE
        self._heard: dict[str, dict[tuple[str, ...], tuple[float, NeighbourFacts]]] = {}
        self._write()

    def take(self, port: str, said: Announcement) -> None:
        """Note what was said at a port; where there are too many already, a new neighbour is not."""
        now, one = time.monotonic(), said.neighbour
        name = (one.chassis_id_subtype, one.chassis_id, one.port_id_subtype, one.port_id)
        heard = {key: found for key, found in self._heard.get(port, {}).items() if found[0] > now and key != name}
        if said.seconds and len(heard) < MOST:
            heard[name] = (now + said.seconds, one)
        self._heard[port] = heard
        self._write()

    def _write(self) -> None:
        known = {
            port: [{"until": until, "neighbour": dataclasses.asdict(one)} for until, one in heard.values()]
            for port, heard in self._heard.items()
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._file, 0o644) as file:
            file.write(json.dumps(known).encode())


def known(root: Path) -> Mapping[str, tuple[NeighbourFacts, ...]] | None:
    """The neighbours by their ports; ``None`` where nobody has listened."""
    try:
        heard = json.loads((root / PLACE).read_bytes())
    except OSError:
        return None
    now = time.monotonic()
    return {
        port: tuple(_facts(found["neighbour"]) for found in neighbours if found["until"] > now)
        for port, neighbours in heard.items()
    }


def _facts(values: dict[str, Any]) -> NeighbourFacts:
    vlans = tuple(VlanFacts(**one) for one in values["vlans"])
    return NeighbourFacts(**{**values, "vlans": vlans, "management": tuple(values["management"])})
