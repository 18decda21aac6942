# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with an image of a registry, and what must come of it.

The images are those of :mod:`tests_functional.bench.layerimages`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bareon.tests.imageserver import Fault
from tests_functional.bench.faultyregistry import OTHER, PASSWORD
from tests_functional.tree_fault_table import IMPATIENT, NO_ROOM, SMALL, TreeFault, Wrong

row = partial(TreeFault, "oci", system=SMALL)
early = partial(row, early=True)
PAGE = Fault(200, {"Content-Type": "text/html"}, body=b"<!DOCTYPE html>\n<title>Sign in</title>\n")
SILENT = Fault(silent=1.0)
#: Of the layer that has nearly all bytes: which it is, for errors.
UPPER = r"layer 2 of 2 \([0-9a-f]{12}\): "


def table() -> list[TreeFault]:
    """Return all faults."""
    return [*_sound(), *_servers(), *_accounts(), *_documents(), *_layers(), *_bombs(), *_kept()]


def _sound() -> Iterator[TreeFault]:
    """Nothing is wrong, or it can be mended."""
    for image in ("layers", "zstd", "plain", "index", "hiding"):
        yield row(image)
    for title, wrong in (
        ("cut once", Wrong("layer2", Fault(cut=300000), after=1, times=1)),
        ("reset once", Wrong("layer2", Fault(cut=300000, reset=True), after=1, times=1)),
        ("503 once", Wrong("layer2", Fault(503), after=1, times=1)),
    ):
        yield row("layers", title=title, wrong=(wrong,), connections=3)
    yield row("layers", title="500 twice for the tag", wrong=(Wrong("tag", Fault(500), times=2),))
    for part in ("tag", "config", "layer2"):
        wrong = Wrong(part, Fault(429, {"Retry-After": "1"}), times=1)
        yield row("layers", title=f"429 for {part}", wrong=(wrong,))
    packing = Wrong("layer2", Fault(headers={"Content-Encoding": "gzip"}))
    yield row("layers", title="encoded as it is packed", wrong=(packing,))
    yield row("layers", title="redirect", wrong=(Wrong("layer2", Fault(307, {"Location": "{other}"})),))


def _servers() -> Iterator[TreeFault]:
    """The registry does not give the image, or not all of it."""
    for title, says, wrong in (
        ("no such tag", r"there is no such image on the server \(404\)$", Wrong("tag", Fault(404))),
        ("no registry", r"is no registry: .* \(404\)$", Wrong("base", Fault(404))),
        ("403", r"\(403\)$", Wrong("tag", Fault(403))),
        ("500", "answers with an error 500, 3 attempts in a row$", Wrong("tag", Fault(500))),
        ("no such configuration", r"\(404\)$", Wrong("config", Fault(404))),
        ("no such layer", UPPER + r".*\(404\)$", Wrong("layer2", Fault(404))),
        ("layer is cut", UPPER + ".*closed the connection.*, 3 attempts", Wrong("layer2", Fault(cut=0))),
        ("429 without end", "asked too often", Wrong("tag", Fault(429))),
        ("to ftp", "redirected to ftp://", Wrong("layer2", Fault(307, {"Location": "ftp://127.0.0.1/x"}))),
        ("encoded", "the server encodes it", Wrong("layer2", Fault(200, {"Content-Encoding": "br"}, body=b"x"))),
    ):
        yield early("layers", says, title=title, wrong=(wrong,))
    wait = Fault(429, {"Retry-After": "9999"})
    says = "asks to wait 9999 s, which is longer than image_timeout leaves$"
    yield early("layers", says, title="429, wait", wrong=(Wrong("tag", wait),), settings={"total_timeout": 60.0})
    for part in ("tag", "config", "layer2"):
        yield early("layers", "silent", title=f"silent: {part}", wrong=(Wrong(part, SILENT),), settings=IMPATIENT)
    drips = Wrong("layer2", Fault(drip=0.01))
    yield early("layers", "longer than 1 s", title="drips", wrong=(drips,), settings={"total_timeout": 1.0})
    for title, says, fault in (
        ("cut for good", "closed the connection.*, 3 attempts", Fault(cut=0)),
        ("403 later", r"\(403\)$", Fault(403)),
    ):
        yield row("layers", UPPER + ".*" + says, title=title, wrong=(Wrong("layer2", fault, after=1),))
    gone = Wrong("layer2", SILENT, after=1)
    yield row("layers", UPPER + ".*silent", title="silent later", wrong=(gone,), settings=IMPATIENT)


def _accounts() -> Iterator[TreeFault]:
    """Who asks, and who is told."""
    yield row("layers", title="account", password=PASSWORD)
    redirect = Wrong("layer2", Fault(307, {"Location": "{other}"}))
    yield row("layers", title="account, redirect", password=PASSWORD, wrong=(redirect,))
    back = Wrong("layer2", Fault(307, {"Location": f"http://{OTHER}/x"}))
    says = f"redirected from https to http, from 127.0.0.1 to {OTHER}, which is not followed$"
    yield early("layers", UPPER + says, title="to http", password=PASSWORD, wrong=(back,))
    yield early("layers", "asks for an account, .*auth.json has none for it$", title="none", password="", code=4)
    yield early("layers", r"asks for credentials, or those that .* wrong .*\(401\)$", title="wrong", password="x")
    basic = Wrong("base", Fault(401, {"WWW-Authenticate": 'Basic realm="x"'}))
    yield early("layers", "by https alone: use oci://$", title="by http", wrong=(basic,), code=4)


def _documents() -> Iterator[TreeFault]:
    """The documents are not what they should be, or of no image that can be brought."""
    yield early(
        "layers", "has a document that cannot be read$", title="page for a manifest", wrong=(Wrong("tag", PAGE),)
    )
    other = Fault(200, {"Docker-Content-Digest": f"sha256:{'0' * 64}"}, body=b"{}")
    yield early(
        "layers",
        "the sha256 of its manifest is .*, 0{64} is what the registry says$",
        title="other manifest",
        wrong=(Wrong("tag", other),),
    )
    says = "configuration: has [0-9]+ bytes, [0-9]+ are wanted$"
    yield early("layers", says, title="other configuration", wrong=(Wrong("config", Fault(body=b"{}")),))
    yield early("layers", says, title="page for a configuration", wrong=(Wrong("config", PAGE),))
    for image, says in (
        ("arm", "is for linux/arm64, and this machine is linux/"),
        ("no platform", "has nothing for linux/.*: it is for linux/arm64$"),
        ("deep", "has an index in an index in an index$"),
        ("unknown manifest", "is no image: its media type is 'application/x-image'$"),
        ("unknown layer", "has a layer of a kind that is not known "),
        ("foreign", "has a layer that registries must not have "),
        ("chart", "is no image of a system: it holds 'application/x.chart'$"),
        ("giant", "its layers have .*, and all volumes of it together would take .* at most$"),
    ):
        yield early(image, says)


def _layers() -> Iterator[TreeFault]:
    """A layer is not what its digests say, or no tree."""
    yield early("layers", UPPER + "has 39 bytes, [0-9]+ are wanted$", title="page", wrong=(Wrong("layer2", PAGE),))
    yield early("shorter", UPPER + "has [0-9]+ bytes, [0-9]+ are wanted$")
    yield early("longer", UPPER + "has [0-9]+ bytes, [0-9]+ are wanted$")
    yield early("xz", "is packed by xz: layers come plain, or by gzip or zstd$")
    yield row("flipped", UPPER + "(its sha256 is|the gzip stream is damaged)")
    yield row("unverified", UPPER + "decoded, its sha256 is .* was wanted$")
    yield row("clipped", UPPER + ".*the gzip stream does not end")
    yield row("link", UPPER + "has a member 'way/planted', .*no link is followed$")
    yield row("way up", UPPER + "has a member .* that leads out of the archive")
    yield row("whiteout of nothing", UPPER + "has 'etc/.wh...', a whiteout of nothing$")


def _bombs() -> Iterator[TreeFault]:
    """Little that becomes much; it ends where the volumes do."""
    for form in ("gzip", "zstd"):
        yield row(f"bomb {form}", NO_ROOM, code=6)
    yield row("behind", "holds more than the .* of all volumes of the image together$")
    yield row("inodes", "has no inodes left, image 'a' does not fit$", code=6)
    yield row("sparse", "has a file of 1 EiB with its holes: ")


def _kept() -> Iterator[TreeFault]:
    """Nothing of what is kept changes where the image is refused, however late that shows."""
    for image, says in (
        ("flipped", UPPER + "(its sha256 is|the gzip stream is damaged)"),
        ("unverified", UPPER + "decoded, its sha256 is .* was wanted$"),
        ("link", UPPER + "has a member 'way/planted', .*no link is followed$"),
        ("sparse", "has a file of 1 EiB with its holes: "),
        ("behind", "holds more than the .* of all volumes of the image together$"),
    ):
        yield early(image, says, kept=True)
    gone = Wrong("layer2", Fault(cut=0), after=1)
    yield early(
        "layers", UPPER + ".*closed the connection.*, 3 attempts", title="cut for good", kept=True, wrong=(gone,)
    )
