# SPDX-License-Identifier: Apache-2.0
"""Machines that Ironic drives: a real Ironic with TLS, a BMC, and nodes that both of them know."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ramdisk import archive
from tests_functional.bench import evidence, loader
from tests_functional.bench.conductor import Conductor
from tests_functional.bench.conductor_settings import Site
from tests_functional.bench.enrolled import Enrolled
from tests_functional.bench.httpd.certificate import make_certificate
from tests_functional.bench.hypervisor import NETWORK_BOOT_PORT, SERVER
from tests_functional.bench.node import KERNEL_PARAMETERS, Node
from tests_functional.bench.redfish import Emulator
from tests_functional.bench.session import Session, artifacts_directory
from tests_functional.bench.ssh import Ssh
from tests_functional.bench.standin import make_key
from tests_functional.bench.template import DiskSpec, Template

#: Seconds from one state of a deployment to a later one, several times what was measured under emulation.
LIMIT = 1200.0
#: Seconds between two heartbeats at most; a third of it is usual. With each one the conductor comes in by SSH, which
#: an emulated processor feels.
HEARTBEAT = 45
#: Seconds between two questions of a test.
PAUSE = 2.0
#: Where a ramdisk has the certificate of Ironic's API.
AUTHORITY = Path("etc/bareon/ironic-api.pem")
#: The first number of a node: the others of a session are below.
FIRST_NUMBER = 32


class Machine(Enrolled):
    """A node with a virtual machine. ``ramdisk`` is the way into it by the conductor's key, while it runs."""

    def __init__(self, lab: Lab, node: Node, system: str, boot: str, **driver_info: Any) -> None:
        self.lab = lab
        self.node = node
        self.ramdisk = Ssh(node.port.address, lab.key)
        wanted = {
            "driver": "bareon-redfish",
            "deploy_interface": "bareon",
            "boot_interface": boot,
            "driver_info": {
                "bareon_key_filename": str(lab.key),
                "redfish_address": lab.emulator.url,
                "redfish_system_id": f"/redfish/v1/Systems/{system}",
                **driver_info,
            },
            "properties": {"capabilities": f"boot_mode:{_firmware(node.template)}"},
        }
        super().__init__(lab.conductor, node.port.mac, wanted)

    def reach(self, *states: str, limit: float = LIMIT) -> dict[str, Any]:
        """Wait for one of some states, a machine's time long; return the node."""
        return self.wait(*states, limit=limit, pause=PAUSE)


def _firmware(template: Template) -> str:
    system = template.machine().find("os")
    return "uefi" if system is not None and system.get("firmware") == "efi" else "bios"


class Lab:
    """What all machines of a test module share; it is started on entry and ended on exit."""

    def __init__(self, session: Session, place: Path) -> None:
        self.session = session
        self.place = place
        self.key = place / "conductor_key"
        make_key(self.key)
        site = Site(
            address=SERVER,
            files_port=NETWORK_BOOT_PORT,
            certificate=make_certificate(place, [SERVER]),
            callback_limit=int(LIMIT),
            heartbeat=HEARTBEAT,
            silence=60,
            kernel_parameters=KERNEL_PARAMETERS,
        )
        self.conductor = Conductor(session.products.ironic, place / "conductor", site)
        self.emulator = Emulator(session.products.redfish, place / "redfish", session.hypervisor)
        self._stack = ExitStack()
        self._count = 0

    def __enter__(self) -> Lab:
        self._stack.callback(self.emulator.stop)
        self.emulator.start()
        self._stack.callback(self.conductor.stop)
        self.conductor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def for_network_boot(self) -> dict[str, str]:
        """Return ``driver_info`` of a node that boots from the network.

        There is no medium then which could bring the certificate of Ironic's API, so it is in the ramdisk.
        """
        tree, packed, whole = (self.place / name for name in ("authority", "authority.cpio", "initramfs-authority"))
        if not whole.exists():
            assert self.conductor.site.certificate
            (tree / AUTHORITY.parent).mkdir(parents=True)
            shutil.copy(self.conductor.site.certificate.public, tree / AUTHORITY)
            archive.pack(tree, packed)
            archive.join([self.session.products.ramdisk.initramfs, packed], whole)
        words = f"%default% ipa-ca-file=/{AUTHORITY}"
        return {"deploy_ramdisk": self.conductor.offer(whole), "kernel_append_params": words}

    def for_uefi_media(self) -> dict[str, str]:
        """Return ``driver_info`` of a node with UEFI that boots from virtual media."""
        return {"bootloader": self.conductor.offer(loader.build(self.place))}

    @contextmanager
    def machine(
        self, name: str, template: Template, disks: Sequence[DiskSpec], boot: str, **driver_info: Any
    ) -> Iterator[Machine]:
        """Give a machine that is off and available; a failure leaves its evidence below ``name``.

        :param boot: Ironic's boot interface
        :param driver_info: besides what every machine needs
        """
        node = self.session.node(template, FIRST_NUMBER + self._count)
        self._count += 1
        node.make_disks(disks)
        system = node.define()
        products = self.session.products.ramdisk
        own = {
            "deploy_kernel": self.conductor.offer(products.kernel),
            "deploy_ramdisk": self.conductor.offer(products.initramfs),
        }
        try:
            yield Machine(self, node, system, boot, **{**own, **driver_info})
        except BaseException:
            place = evidence.collect(node, artifacts_directory() / name)
            for log in (self.conductor.place / "ironic.log", self.emulator.place / "output"):
                shutil.copy(log, place)
            print(f"evidence: {place}\nthe console ends:\n{node.console_tail()}")
            raise
        finally:
            node.undefine()
            node.drop_disks()
