# SPDX-License-Identifier: Apache-2.0
"""Hardware types that offer the deploy interface ``bareon`` beside Ironic's own.

A type of Ironic cannot be extended from outside: its deploy interfaces are a list in its class.
"""

from __future__ import annotations

from typing import Any

from ironic.conf import CONF
from ironic.drivers import ipmi, redfish

from bareon.ironic import conf
from bareon.ironic.deploy import BareonDeploy

for name in ("bareon-redfish", "bareon-ipmi"):
    conf.register_hardware_type(CONF, name)


class BareonRedfish(redfish.RedfishHardware):
    """``bareon-redfish``: ``redfish`` with the deploy interface ``bareon``."""

    @property
    def supported_deploy_interfaces(self) -> list[Any]:
        """bareon's interface comes first, and so is the default."""
        return [BareonDeploy, *super().supported_deploy_interfaces]


class BareonIPMI(ipmi.IPMIHardware):
    """``bareon-ipmi``: ``ipmi`` with the deploy interface ``bareon``."""

    @property
    def supported_deploy_interfaces(self) -> list[Any]:
        """bareon's interface comes first, and so is the default."""
        return [BareonDeploy, *super().supported_deploy_interfaces]
