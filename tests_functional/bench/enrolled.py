# SPDX-License-Identifier: Apache-2.0
"""A node as Ironic's API shows it: its fields, its provision state, and waiting for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests_functional.bench.conductor import Conductor
from tests_functional.bench.waiting import until


class Enrolled:
    """A node that Ironic knows. It is available once this has been made.

    :param wanted: the fields of the node
    :param mac: the hardware address of its one port
    """

    def __init__(self, conductor: Conductor, mac: str, wanted: Mapping[str, Any]) -> None:
        self.conductor = conductor
        self.mac = mac
        self.uuid = str(conductor.call("POST", "/v1/nodes", wanted)["uuid"])
        conductor.call("POST", "/v1/ports", {"address": mac, "node_uuid": self.uuid})
        for verb, state in (("manage", "manageable"), ("provide", "available")):
            self.provision(verb)
            self.wait(state)

    def show(self) -> dict[str, Any]:
        """Return the node as Ironic shows it."""
        found: dict[str, Any] = self.conductor.call("GET", f"/v1/nodes/{self.uuid}")
        return found

    @property
    def notes(self) -> dict[str, Any]:
        """Return what Ironic and its interfaces have noted of the node."""
        found: dict[str, Any] = self.show()["driver_internal_info"]
        return found

    def set(self, **values: Any) -> None:
        """Set values of ``instance_info``."""
        self._patch("instance_info", values)

    def driver(self, **values: Any) -> None:
        """Set values of ``driver_info``."""
        self._patch("driver_info", values)

    def properties(self, **values: Any) -> None:
        """Set values of ``properties``."""
        self._patch("properties", values)

    def traits(self, *names: str) -> None:
        """Set the traits that the node has."""
        self.conductor.call("PUT", f"/v1/nodes/{self.uuid}/traits", {"traits": names})

    def deploy_interface(self, name: str) -> None:
        """Set the deploy interface."""
        change = [{"op": "replace", "path": "/deploy_interface", "value": name}]
        self.conductor.call("PATCH", f"/v1/nodes/{self.uuid}", change)

    def _patch(self, field: str, values: dict[str, Any]) -> None:
        changes = [{"op": "add", "path": f"/{field}/{name}", "value": value} for name, value in values.items()]
        self.conductor.call("PATCH", f"/v1/nodes/{self.uuid}", changes)

    def provision(self, target: str, **body: Any) -> None:
        """Ask for another provision state."""
        self.conductor.call("PUT", f"/v1/nodes/{self.uuid}/states/provision", {"target": target, **body})

    def wait(self, *states: str, limit: float = 60, pause: float = 0.05) -> dict[str, Any]:
        """Wait for one of some provision states, until nothing works on the node any more; return the node.

        :param limit: in seconds, as ``pause``
        """
        found: dict[str, Any] = {}

        def reached() -> bool:
            found.update(self.show())
            return found["provision_state"] in states and not found["reservation"]

        try:
            until(reached, " or ".join(states), limit, pause)
        except AssertionError as error:
            raise AssertionError(f"{error}: {found['provision_state']}: {found['last_error']}") from None
        return found
