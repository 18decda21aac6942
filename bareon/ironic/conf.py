# SPDX-License-Identifier: Apache-2.0
"""The group ``[bareon]`` of ironic.conf, and what a node's ``driver_info`` says instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from oslo_config import cfg

from bareon.errors import Defect, InvalidInput

GROUP = "bareon"

OPTIONS = [
    cfg.StrOpt("username", default="root", help="The user of the ramdisk. driver_info: bareon_username."),
    cfg.StrOpt(
        "key_filename",
        help="The private SSH key on the conductor, which nobody else may be able to read. The ramdisk admits its "
        "public half alone. driver_info: bareon_key_filename.",
    ),
    cfg.PortOpt(
        "ssh_port",
        help="The port of the ramdisk's SSH server, in place of the one in its heartbeats. driver_info: "
        "bareon_ssh_port.",
    ),
    cfg.StrOpt(
        "deploy_script",
        default="bareon-provision",
        help="The program in the ramdisk. driver_info: bareon_deploy_script.",
    ),
    cfg.IntOpt(
        "deploy_timeout",
        default=7200,
        min=1,
        help="Seconds for a run. It is ended by SIGTERM then. driver_info: bareon_deploy_timeout.",
    ),
    cfg.IntOpt("ssh_timeout", default=30, min=3, help="Seconds that a ramdisk may be silent on an SSH connection."),
    cfg.StrOpt(
        "report_folder",
        help="Where reports, and bundles of failed runs, are kept. Default: deploy_logs_local_path of [agent].",
    ),
]

PROPERTIES = {
    "bareon_username": "The user of the ramdisk. Default: username of [bareon].",
    "bareon_key_filename": "The private SSH key on the conductor. Required, here or in [bareon].",
    "bareon_ssh_port": "The port of the ramdisk's SSH server. Default: the one in its heartbeats.",
    "bareon_deploy_script": "The program in the ramdisk. Default: deploy_script of [bareon].",
    "bareon_deploy_timeout": "Seconds for a run. Default: deploy_timeout of [bareon].",
}


@dataclass(frozen=True)
class Settings:
    """How a node's ramdisk is worked with. ``timeout`` is seconds for a run, ``patience`` of silence."""

    user: str
    key_file: str
    port: int | None
    script: str
    timeout: int
    patience: int


def register(conf: cfg.ConfigOpts) -> None:
    """Register the group."""
    conf.register_opts(OPTIONS, group=GROUP)


def register_hardware_type(conf: cfg.ConfigOpts, name: str) -> None:
    """Register the option that Ironic looks for by the name of a hardware type.

    Without that group, validation of a type that derives from ``redfish`` fails.
    """
    help_text = "Certificates to trust for the BMC, as verify_ca of [redfish]."
    conf.register_opts([cfg.StrOpt("verify_ca", help=help_text)], group=name)


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options, for the generator of a sample."""
    return [(GROUP, OPTIONS)]


def settings(conf: cfg.ConfigOpts, driver_info: Mapping[str, Any]) -> Settings:
    """Those of a node.

    :raises InvalidInput: when one is wrong, or there is no key.
    """
    group = conf[GROUP]
    key = driver_info.get("bareon_key_filename") or group.key_filename
    defects: list[Defect] = []
    if not key:
        message = "there is no SSH key: set it here, or key_filename in [bareon] of ironic.conf"
        defects.append(Defect("driver_info.bareon_key_filename", message))
    timeout = _number(driver_info, "bareon_deploy_timeout", group.deploy_timeout, 1 << 31, defects)
    port = _number(driver_info, "bareon_ssh_port", group.ssh_port, 65535, defects)
    if defects:
        raise InvalidInput(defects)
    assert timeout is not None
    return Settings(
        user=str(driver_info.get("bareon_username") or group.username),
        key_file=str(key),
        port=port,
        script=str(driver_info.get("bareon_deploy_script") or group.deploy_script),
        timeout=timeout,
        patience=group.ssh_timeout,
    )


def _number(
    driver_info: Mapping[str, Any], name: str, default: int | None, most: int, defects: list[Defect]
) -> int | None:
    given = driver_info.get(name)
    if given is None:
        return default
    if re.fullmatch("[0-9]{1,10}", str(given)) and 0 < int(given) <= most:
        return int(given)
    defects.append(Defect(f"driver_info.{name}", f"is no whole number from 1 to {most}"))
    return None
