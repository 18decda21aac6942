# SPDX-License-Identifier: Apache-2.0
"""A tenant whose initramfs activates thin volumes, as Debian's does with thin-provisioning-tools alone."""

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

    def make(target: Path) -> None:
        tree = target / "tree"
        packages = (*PACKAGES, "linux-image-amd64", "grub-pc", "thin-provisioning-tools")
        debian.make_tree("bookworm", packages, tree, excluded=EXCLUDED, initramfs=True)
        _configure(tree, public)
        _describe(tree, target)

    code = [Path(module) for module in (__file__, debian.__file__)]
    place = cache.product("tenant-thin", cache.digest("thin", public, debian.EXCLUDED, *code), make, report)
    return Tenant(place / "tree", place / "manifest", place / "SHA256SUMS")
