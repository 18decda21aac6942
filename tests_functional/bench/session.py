# SPDX-License-Identifier: Apache-2.0
"""What one session of tests has: a hypervisor, image servers, and nodes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from building.cache import Report
from tests_functional.bench import evidence, faulty, variant
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.hypervisor import SERVER, Hypervisor
from tests_functional.bench.imageserver import ImageServers
from tests_functional.bench.node import Boot, Node
from tests_functional.bench.products import Products
from tests_functional.bench.proxy import CuttingProxy
from tests_functional.bench.rsyncd import Module, RsyncServer
from tests_functional.bench.strategy import Strategy
from tests_functional.bench.template import DiskSpec, Template
from tests_functional.bench.word import Words

#: A port on which nothing listens.
SILENT_PORT = 9
#: What ``debian12`` can do without where nobody boots it: it keeps kernel, initramfs and GRUB, and half its size.
NOT_BOOTED = (
    *("/usr/lib/modules/", "/usr/lib/systemd/", "/usr/lib/udev/", "/usr/lib/grub/x86_64-efi/", "/opt/"),
    *("/usr/share/[!g]*", "/usr/share/g[!r]*", "/usr/lib/python3*", "/usr/bin/python3*", "/var/lib/dpkg/"),
    *("/usr/lib/x86_64-linux-gnu/perl*", "/usr/lib/x86_64-linux-gnu/libicu*", "/usr/lib/x86_64-linux-gnu/systemd/"),
    *("/usr/lib/x86_64-linux-gnu/gconv/", "/usr/lib/x86_64-linux-gnu/libperl*", "/usr/lib/firmware/"),
)
#: Less of it still, without a boot loader: some 20 MB in 500 files.
FRACTION = ("/usr/lib/*", "/usr/share/", "/usr/sbin/", "/boot/", "/var/lib/", "/usr/bin/[!a-m]*")
#: Seconds for each command that prepares the disks.
PREPARE_LIMIT = 120.0
#: pytest's ``record_property``: adds a line to a table at the end of the run, or a number to a count.
Record = Callable[[str, object], None]


class Session:
    """Everything is started on entry and ended on exit; it must run in a cell.

    ``images`` run already: there are tests that need them and nothing else. With ``keep`` the node of a failure stays
    up until somebody presses Enter.
    """

    def __init__(self, products: Products, images: ImageServers, report: Report, *, keep: bool = False) -> None:
        self.keep = keep
        self.products = products
        self.images = images
        self.hypervisor = Hypervisor(products.accelerator)
        small = SCRATCH / "small"
        self.rsync = RsyncServer(
            SCRATCH / "rsyncd",
            {
                **{name: Module(system.tree) for name, system in products.systems.items()},
                "small": Module(small),
                "tiny": Module(faulty.tiny(SCRATCH / "tiny")),
                "ramdisk": Module(products.ramdisk.kernel.parent),
                "fraction": Module(products.systems["debian12"].tree, excluded=FRACTION),
                "unbooted": Module(products.systems["debian12"].tree, excluded=NOT_BOOTED),
                # Not root: one file of it cannot be read, and rsync ends with 23.
                "unreadable": Module(faulty.unreadable(SCRATCH / "unreadable"), uid="nobody"),
                "many": Module(faulty.many_files(SCRATCH / "many")),
                "etc-link": Module(faulty.linked(SCRATCH / "etc-link", "etc")),
                "srv-link": Module(faulty.linked(SCRATCH / "srv-link", "srv")),
                "busy": Module(small, settings=("max connections = -1",)),
                "vendor-esp": Module(
                    variant.loaders_on_esp(products.systems["debian13"].tree, SCRATCH / "vendor-esp")
                ),
                "boot-links": Module(variant.boot_links(products.systems["debian12"].tree, SCRATCH / "boot-links")),
                "merged": Module(faulty.merged(SCRATCH / "merged")),
                "odd": Module(faulty.odd(SCRATCH / "odd")),
            },
        )
        faulty.small(small)
        ramdisk = products.ramdisk
        boot = Boot(ramdisk.kernel, ramdisk.initramfs)
        self.strategy = Strategy(boot, SCRATCH, report)
        self._stack = ExitStack()

    def __enter__(self) -> Session:
        self.hypervisor.start()
        self._stack.callback(self.hypervisor.stop)
        self.rsync.start()
        self._stack.callback(self.rsync.stop)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def node(self, template: Template, number: int = 0) -> Node:
        """Return a node that is off and has no disks yet."""
        place = SCRATCH / f"node{number}"
        return Node(self.hypervisor, template, place, self.products.key, number=number)

    @contextmanager
    def node_in_ramdisk(
        self, template: Template, disks: Sequence[DiskSpec], name: str, contents: Path | None = None
    ) -> Iterator[Node]:
        """Give a node that runs the ramdisk; a failure leaves its evidence below ``name``.

        Its disks are as the template has them, if they are the template's own, or empty, or have the ``contents`` of
        those in a directory, see :meth:`Node.copy_disks`.
        """
        node = self.node(template)
        node.make_disks(disks)
        if contents:
            for disk in node.disks:
                disk.at(contents).copy(disk.path)
        with self.explained(node, name):
            self.strategy.ramdisk(node)
            if contents is None and tuple(disks) == template.disks:
                for command in template.before:
                    node.ssh.run(command, timeout=PREPARE_LIMIT)
            yield node

    @contextmanager
    def explained(self, node: Node, name: str) -> Iterator[None]:
        """Switch a node off in the end, and have it leave its evidence by this name if something fails before."""
        try:
            yield
        except BaseException:
            place = evidence.collect(node, artifacts_directory() / name)
            print(f"evidence: {place}\nthe console ends:\n{node.console_tail()}")
            if self.keep:
                wait_for_enter(node)
            raise
        finally:
            node.power_off()
            node.drop_disks()

    def words(self) -> Words:
        """Return the words in braces of one case; see ``tests_functional/cases/README.rst``."""
        return {
            "rsync": lambda _: self.rsync.url,
            "rsync-cut": self._cut_rsync,
            "silent": lambda _: f"rsync://{SERVER}:{SILENT_PORT}",
            "version": lambda _: self.products.ramdisk.version,
            **self.images.words(),
        }

    def _cut_rsync(self, argument: str) -> str:
        """The address of a proxy of the rsync server, for ``BYTES-BYTES`` or ``BYTES-always``."""
        *cuts, last = argument.split("-")
        cuts += [last] if last != "always" else []
        server = (SERVER, self.rsync.port)
        proxy = CuttingProxy(SERVER, server, [int(cut) for cut in cuts], always=last == "always")
        proxy.start()
        self._stack.callback(proxy.stop)
        return f"rsync://{proxy.address}:{proxy.port}"


def wait_for_enter(node: Node) -> None:
    """Say how to get into a node, and wait until somebody has seen enough."""
    # The terminal itself: pytest has put files in the place of the standard streams.
    with Path("/dev/tty").open("w") as terminal, Path("/dev/tty").open() as keyboard:
        line = node.ssh.enter_line()
        terminal.write(f"\n{node.name} stays up; as root, from another terminal:\n  {line}\n")
        terminal.write("Enter ends it. ")
        terminal.flush()
        keyboard.readline()


def artifacts_directory() -> Path:
    """Return the directory in which failures leave their evidence, not yet made.

    It is ``$BAREON_ARTIFACTS``, or one below the temporary directory.
    """
    place = os.environ.get("BAREON_ARTIFACTS")
    return Path(place) if place else Path("/tmp/bareon-artifacts")
