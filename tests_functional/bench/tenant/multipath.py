# SPDX-License-Identifier: Apache-2.0
"""A tenant whose initramfs puts the paths of a disk together, before it looks for its root file system."""

from __future__ import annotations

from pathlib import Path

from building import cache, debian
from tests_functional.bench.keys import key_pair
from tests_functional.bench.tenant.build import EXCLUDED, PACKAGES, Tenant, _configure, _describe


def build(report: cache.Report) -> Tenant:
    """Return the tenant, made if it is not in the cache.

    :raises ProgramError: when it cannot be fetched or made
    """
    public = key_pair().with_suffix(".pub").read_text()
    packages = (*PACKAGES, "linux-image-amd64", "grub-pc", "multipath-tools-boot")

    def make(target: Path) -> None:
        tree = target / "tree"
        debian.make_tree("bookworm", packages, tree, excluded=EXCLUDED, initramfs=True)
        _configure(tree, public)
        _describe(tree, target)

    code = [Path(module) for module in (__file__, debian.__file__)]
    key = cache.digest("multipath", public, debian.EXCLUDED, *packages, *code)
    place = cache.product("tenant-multipath", key, make, report)
    return Tenant(place / "tree", place / "manifest", place / "SHA256SUMS")
