# SPDX-License-Identifier: Apache-2.0
"""All that is built before a cell is entered, from where nothing can be fetched any more."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import ramdisk
from building import cache
from building.process import kill_running
from ramdisk import Ramdisk
from ramdisk.base import build_base
from ramdisk.profile import PROFILES
from tests_functional.bench import accelerator, blockimage, conductor, redfish, tenant
from tests_functional.bench.keys import key_pair

#: Tells a process in a cell where the products are.
VARIABLE = "BAREON_PRODUCTS"


@dataclass(frozen=True)
class Products:
    """What a session uses: the ramdisk, the tenants by the names under which they are served, the block images.

    ``foreign`` are ramdisks of the same for machines of other architectures, by Debian's names of these.
    ``base`` is what media with the ramdisk are made of, see :func:`ramdisk.base.build_base`; ``accelerator`` is what
    virtual machines run with, see :func:`accelerator.choose`; ``ironic`` is the virtual environment of a conductor,
    ``redfish`` that of a BMC; ``key`` is the private SSH key that opens the machines.
    """

    ramdisk: Ramdisk
    base: Path
    systems: Mapping[str, tenant.Tenant]
    images: blockimage.Images
    accelerator: str
    ironic: Path
    redfish: Path
    key: Path
    foreign: Mapping[str, Ramdisk] = field(default_factory=dict)

    def hand_over(self) -> None:
        """Put the places of the products into the environment, for :meth:`received`."""
        places = {
            "ramdisk": _texts(self.ramdisk),
            "base": str(self.base),
            "systems": {name: _texts(system) for name, system in self.systems.items()},
            "images": str(self.images.place),
            "accelerator": self.accelerator,
            "ironic": str(self.ironic),
            "redfish": str(self.redfish),
            "key": str(self.key),
            "foreign": {name: _texts(disk) for name, disk in self.foreign.items()},
        }
        os.environ[VARIABLE] = json.dumps(places)

    @classmethod
    def received(cls) -> Products:
        """Return what the process outside the cell built.

        A look into the cache would not do: the checkout may have changed since.
        """
        found = json.loads(os.environ[VARIABLE])
        return cls(
            _ramdisk(found["ramdisk"]),
            Path(found["base"]),
            {name: _tenant(places) for name, places in found["systems"].items()},
            blockimage.Images(Path(found["images"])),
            found["accelerator"],
            Path(found["ironic"]),
            Path(found["redfish"]),
            Path(found["key"]),
            {name: _ramdisk(places) for name, places in found["foreign"].items()},
        )


def _texts(value: Ramdisk | tenant.Tenant) -> dict[str, str]:
    return {name: str(part) for name, part in vars(value).items()}


def _ramdisk(places: Mapping[str, str]) -> Ramdisk:
    return Ramdisk(Path(places["kernel"]), Path(places["initramfs"]), places["version"])


def _tenant(places: Mapping[str, str]) -> tenant.Tenant:
    return tenant.Tenant(Path(places["tree"]), Path(places["manifest"]), Path(places["checksums"]))


def build(
    report: cache.Report,
    other_ironic: str | None = None,
    profile: str = "small",
    foreign: Sequence[str] = (),
) -> Products:
    """Build what is missing: ramdisk and tenants side by side, then the images, which are made of tenants.

    :param other_ironic: what pip installs as Ironic, in place of the tests' own
    :param profile: of the ramdisk, with the firmware that it has
    :param foreign: the architectures that there are ramdisks for besides, by Debian's names
    :raises ProgramError: when one of them cannot be built
    :raises ValueError: when the environment asks for an accelerator that does not exist
    """
    key = key_pair()
    firmware = bool(PROFILES[profile].firmware)
    # Each build is busy on one processor for most of its time.
    with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 1)) as pool:
        builds = {name: pool.submit(tenant.build, report, name) for name in tenant.SYSTEMS}
        builds["dracut"] = pool.submit(tenant.dracut.build, report)
        builds["multipath"] = pool.submit(tenant.multipath.build, report)
        builds["sealed"] = pool.submit(tenant.sealed.build, report)
        builds["thin"] = pool.submit(tenant.thin.build, report)
        public = key.with_suffix(".pub").read_text()
        others = {name: pool.submit(ramdisk.build, report, public, architecture=name) for name in foreign}
        disk = pool.submit(ramdisk.build, report, public, profile, firmware=firmware)
        ironic = pool.submit(conductor.build, report, other_ironic)
        bmc = pool.submit(redfish.build, report)
        try:
            systems = {name: build.result() for name, build in builds.items()}
            systems["golden"] = tenant.golden.build(report, systems["debian12"])
            images = blockimage.build(report, systems)
            systems |= tenant.unified.build(report, systems["debian12"])
            poor = {"hostonly": systems["dracut"], "single-disk": systems["debian12"]}
            systems |= tenant.poor.build(report, poor)
            systems["entries"] = tenant.entries.build(report, systems["hostonly"])
            systems["hostile"] = tenant.hostile.build(report, systems["debian12"], systems["dracut"])
            chosen = accelerator.choose(disk.result().kernel, report)
            base = build_base(report, profile, firmware=firmware)
            all_others = {name: build.result() for name, build in others.items()}
            programs = ironic.result(), bmc.result()
            return Products(disk.result(), base, systems, images, chosen, *programs, key, all_others)
        except BaseException:
            # Leaving the pool waits for its threads, and they for their programs.
            pool.shutdown(wait=False, cancel_futures=True)
            kill_running()
            raise
