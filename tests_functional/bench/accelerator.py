# SPDX-License-Identifier: Apache-2.0
"""Finds out whether virtual machines can be accelerated, by starting one.

That ``/dev/kvm`` is there, and can be opened, proves nothing: on machines that are virtual themselves, guests may
hang on it, or not start at all. So a kernel is started with it. Without a root file system it panics; one that gets
that far can be relied upon.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

from building import cache
from building.process import ProgramError, run

#: Set to one of :data:`KNOWN`, it decides, and nothing is tried.
VARIABLE = "BAREON_ACCELERATOR"
#: What libvirt calls a domain by its accelerator, in the order of preference.
KNOWN = {"kvm": "kvm", "tcg": "qemu"}
#: Seconds for the kernel; with KVM it takes two.
LIMIT = 15.0
#: How a kernel ends that has come as far as it can without a root file system.
PROOF = "Kernel panic - not syncing: VFS"


def choose(kernel: Path, report: cache.Report) -> str:
    """Return ``kvm`` where it works, else ``tcg``, which emulates. What was found is kept until the next boot.

    :raises ValueError: when the environment asks for something else
    """
    if wanted := os.environ.get(VARIABLE):
        if wanted not in KNOWN:
            raise ValueError(f"{VARIABLE} is {wanted!r}; it can be {' or '.join(KNOWN)}")
        return wanted
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()

    def find(place: Path) -> None:
        (place / "found").write_text("kvm" if works("kvm", kernel, LIMIT) else "tcg")

    place = cache.product("accelerator", cache.digest(boot, kernel, Path(__file__)), find, report)
    found = (place / "found").read_text()
    report(f"virtual machines run with {found}")
    return found


def works(accelerator: str, kernel: Path, seconds: float) -> bool:
    """Tell whether a kernel runs with an accelerator of qemu's."""
    # As apply() has it: another kind of processor might work where that does not.
    machine = ("-machine", "q35", "-cpu", "max", "-m", "512")
    # A panic restarts at once, and a restart ends qemu.
    system = ("-kernel", kernel, "-append", "console=ttyS0 panic=-1", "-no-reboot")
    devices = ("-nodefaults", "-display", "none", "-serial", "stdio")
    try:
        done = run(["qemu-system-x86_64", "-accel", accelerator, *machine, *system, *devices], timeout=seconds)
    except ProgramError:
        return False
    return PROOF in done.stdout


def apply(accelerator: str, domain: ET.Element) -> None:
    """Have a domain use an accelerator.

    Templates are for emulation. They have one processor: two of one machine, waiting for each other on a host where
    other machines run too, took half as long again for everything. It is an old one of AMD's: what newer ones can do
    besides takes an emulator time, and so do a kernel's ways around the weaknesses of Intel's. A machine of another
    architecture than the host's is emulated in any case.
    """
    described = domain.find("os/type")
    if described is not None and described.get("arch") != os.uname().machine:
        accelerator = "tcg"
    domain.set("type", KNOWN[accelerator])
    if accelerator == "tcg":
        return
    for features in domain.findall("features"):
        for element in features.findall("tcg"):
            features.remove(element)
    for processor in domain.findall("cpu"):
        processor.clear()
        processor.set("mode", "maximum")
