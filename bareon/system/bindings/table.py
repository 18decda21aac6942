# SPDX-License-Identifier: Apache-2.0
"""The list of bindings. A new one is a module beside this one, and a line here."""

from __future__ import annotations

from bareon.system.bindings.binding import Binding, Result
from bareon.system.bindings.boot_entries import BootEntries
from bareon.system.bindings.crypt_keys import CryptKeys, KeysInInitramfs
from bareon.system.bindings.crypttab import Crypttab
from bareon.system.bindings.device_map import DeviceMap
from bareon.system.bindings.devices_file import DevicesFiles, Filters
from bareon.system.bindings.fstab import Fstab
from bareon.system.bindings.home import Home
from bareon.system.bindings.interface import Interfaces, LinkFiles
from bareon.system.bindings.kernel_words import KernelWords
from bareon.system.bindings.leftover import Leftovers
from bareon.system.bindings.maker_settings import MakerSettings
from bareon.system.bindings.mdadm_conf import MdadmConf
from bareon.system.bindings.multipath import Multipath
from bareon.system.bindings.record import Record
from bareon.system.bindings.resume import Resume
from bareon.system.tree import Tree

BINDINGS: tuple[Binding, ...] = (
    Fstab(),
    CryptKeys(),  # reads crypttab as it was
    Crypttab(),
    KeysInInitramfs(),
    MakerSettings(),
    Resume(),
    DevicesFiles(),
    Filters(),
    MdadmConf(),
    KernelWords(),
    BootEntries(),
    Multipath(),
    DeviceMap(),
    Interfaces(),
    LinkFiles(),
    Record(),
    Leftovers(),
)


def bind(tree: Tree, home: Home) -> Result:
    """Bind a deployed system to its node.

    :raises ActionFailed: when a file cannot be read or written.
    """
    result = Result()
    for binding in BINDINGS:
        binding.apply(tree, home, result)
    return result


def of_node() -> tuple[str, ...]:
    """The files that are the node's own, which no image may bring to a root that is kept."""
    return tuple(path for binding in BINDINGS if binding.of_node for path in binding.files)
