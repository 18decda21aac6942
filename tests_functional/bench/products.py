# SPDX-License-Identifier: Apache-2.0
"""All that is built before a cell is entered, from where nothing can be fetched any more."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests_functional.bench import blockimage, cache, ramdisk, tenant
from tests_functional.bench.keys import key_pair
from tests_functional.bench.process import kill_running

#: Tells a process in a cell where the products are.
VARIABLE = "BAREON_PRODUCTS"


@dataclass(frozen=True)
class Products:
    """The ramdisk, the tenants and the block images that a session uses; ``second`` is another release."""

    ramdisk: ramdisk.Ramdisk
    second: tenant.Tenant
    tenant: tenant.Tenant
    images: blockimage.Images

    def hand_over(self) -> None:
        """Put the places of the products into the environment, for :meth:`received`."""
        places = {
            "kernel": self.ramdisk.kernel,
            "initramfs": self.ramdisk.initramfs,
            "key": self.ramdisk.key,
            "version": self.ramdisk.version,
            "suite": self.tenant.suite,
            "tree": self.tenant.tree,
            "manifest": self.tenant.manifest,
            "checksums": self.tenant.checksums,
            "images": self.images.place,
            **{f"second_{name}": value for name, value in vars(self.second).items()},
        }
        os.environ[VARIABLE] = json.dumps({name: str(value) for name, value in places.items()})

    @classmethod
    def received(cls) -> Products:
        """Return what the process outside the cell built.

        A look into the cache would not do: the checkout may have changed since.
        """
        found = json.loads(os.environ[VARIABLE])
        path = {name: Path(value) for name, value in found.items()}
        disk = ramdisk.Ramdisk(path["kernel"], path["initramfs"], path["key"], found["version"])
        image = tenant.Tenant(found["suite"], path["tree"], path["manifest"], path["checksums"])
        parts = ("tree", "manifest", "checksums")
        second = tenant.Tenant(found["second_suite"], *(path[f"second_{name}"] for name in parts))
        return cls(disk, second, image, blockimage.Images(path["images"]))


def build(report: cache.Report) -> Products:
    """Build what is missing; the ramdisk at the same time as the tenant and the images made of it.

    :raises ProgramError: when one of them cannot be built
    """
    key_pair()
    with ThreadPoolExecutor(max_workers=2) as pool:
        systems = pool.submit(_systems, report)
        disk = pool.submit(ramdisk.build, report)
        try:
            return Products(disk.result(), *systems.result())
        except BaseException:
            # Leaving the pool waits for its threads, and they for their programs.
            kill_running()
            raise


def _systems(report: cache.Report) -> tuple[tenant.Tenant, tenant.Tenant, blockimage.Images]:
    system = tenant.build(report)
    return tenant.build(report, "trixie"), system, blockimage.build(report, system)
