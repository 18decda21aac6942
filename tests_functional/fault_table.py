# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between an image server and a device, and what must come of it.

The words in braces and the faults in the URLs are those of ``tests_functional/cases/README.rst``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MIB = 1 << 20
#: Larger than the small image, so that there is a rest of the volume behind it.
LIMIT = 56 * MIB
#: Bytes behind the limit that nobody may write to.
GUARD = 8 * MIB
FORMS = ("gz", "zst", "xz", "bz2")
#: The small image's bytes as served are a bit more in every form; a cut shall not lie behind the end.
SERVED = 6_000_000
CUTS = 10
#: For servers that stay silent; every other fault would suffer on a busy machine.
IMPATIENT = {"idle_timeout": 0.3, "attempts": 2}


@dataclass(frozen=True)
class Fault:
    """One fault.

    ``failure`` is searched for in the error's text behind the URL; without it the image must arrive, ``copies`` times
    the small one, over at least so many ``connections``. ``untouched``: it must be refused before the first write.
    ``limit`` is the volume's size, ``guard`` the bytes behind it. ``settings`` differ from the default; ``trusted``:
    the CA file is given; ``account``: the key of a Swift account.
    """

    name: str
    url: str
    failure: str | None = None
    digest: str | None = None
    limit: int = LIMIT
    connections: int = 1
    untouched: bool = False
    copies: int = 1
    guard: int = GUARD
    settings: Mapping[str, float] = field(default_factory=dict)
    trusted: bool = False
    account: str | None = None


def refused(name: str, url: str, failure: str, **more: object) -> Fault:
    """Return a fault that must be found before the first byte is written."""
    return Fault(name, url, failure, untouched=True, **more)  # type: ignore[arg-type]


def table() -> list[Fault]:
    """Return all faults."""
    return [
        *_sound(),
        *_resumed(),
        *_servers(),
        *_redirects(),
        *_swift(),
        *_damaged(),
        *_digests(),
        *_too_small(),
        *_changed(),
    ]


def _sound() -> Iterator[Fault]:
    """Nothing is wrong, or only looks so."""
    names = ("small.img", *(f"small.img.{form}" for form in FORMS), "small.qcow2", "small-compressed.qcow2")
    for name in names:
        yield Fault(f"none: {name}", f"{{http}}/plain/{name}", digest=f"sha256:{{sha256:{name}}}")
    for form in FORMS:
        yield Fault(f"two streams in one: {form}", f"{{http}}/plain/twice.img.{form}", limit=2 * LIMIT, copies=2)
    gz = "small.img.gz"
    yield Fault("Content-Encoding: gzip", f"{{http}}/gzip-encoded/{gz}", digest=f"sha256:{{sha256:{gz}}}")
    yield Fault("no Content-Length", f"{{http}}/nolength/{gz}", digest=f"sha512:{{sha512:{gz}}}")
    yield Fault("no Content-Length, raw", "{http}/nolength/small.img", digest="md5:{md5:small.img}")
    yield Fault("slow bytes", f"{{http}}/slow-6000000/{gz}")
    yield Fault("volume exactly as large", "{http}/plain/small.img.zst", limit=48 * MIB)


def offsets(seed: int, below: int = SERVED) -> str:
    """Return offsets to cut a connection at, joined by dashes."""
    return "-".join(map(str, sorted(random.Random(seed).sample(range(1, below), CUTS))))


def _resumed() -> Iterator[Fault]:
    """The connection breaks, and the rest comes over another one."""
    for seed, form in enumerate(("", *FORMS)):
        name = f"small.img.{form}".rstrip(".")
        where = offsets(seed, SERVED if form else 48 * MIB)
        yield _cut(f"cut at 10 offsets: {form or 'raw'}", f"cut-at-{where}", name, CUTS + 1)
    yield _cut("cut at 10 offsets: qcow2", f"cut-at-{offsets(7)}", "small.qcow2", CUTS)
    for words in ("norange", "noetag", "nolength", "norange+nolength+noetag"):
        yield _cut(f"cut at 10 offsets, {words}", f"{words}+cut-at-{offsets(8)}", "small.img.gz", CUTS + 1)
    yield _cut("cut after each 1000000 bytes", "cut-1000000", "small.img.zst", 7)
    yield _cut("reset after each 1000000 bytes", "reset-1000000", "small.img.xz", 7)
    yield _cut("silent after 2000000 bytes, once", "stall-2000000", "small.img.gz", 2)
    yield _cut("500, 500, then success", "500x2", "small.img.gz", 3)
    yield _cut("503, 503, then cut once", "503x2+cut-at-3000000", "small.img.gz", 4)
    yield _cut("429, 429, then success", "429x2", "small.img.gz", 3)
    yield _cut("498 as of a busy Swift, then success", "498x1", "small.img.gz", 2)
    yield _cut("408, then success", "408x1", "small.img", 2)


def _cut(name: str, words: str, image: str, connections: int) -> Fault:
    return Fault(name, f"{{http}}/{words}/{image}", digest=f"sha256:{{sha256:{image}}}", connections=connections)


def _servers() -> Iterator[Fault]:
    """The server does not give the image, or not all of it."""
    gz = "small.img.gz"
    yield refused("404", f"{{http}}/404/{gz}", r"\(404\)$")
    yield refused("403", f"{{http}}/403/{gz}", r"\(403\)$")
    yield refused("500 without end", f"{{http}}/500/{gz}", r"answers with an error 500, 3 attempts")
    yield refused("name that does not resolve", "http://image.invalid/small.img", "image.invalid cannot be resolved")
    yield refused("nobody listens", "http://127.0.0.1:9/small.img", r"127\.0\.0\.1 refuses the connection")
    yield refused("ftp", "ftp://127.0.0.1/small.img", "http, https, file and swift only")
    yield Fault("body shorter than Content-Length", f"{{http}}/short/{gz}", "closed the connection after ")
    yield Fault("body longer than Content-Length, gz", f"{{http}}/wrong-length/{gz}", "end")
    yield Fault(
        "body longer than Content-Length, raw",
        "{http}/wrong-length/small.img",
        "sha256 is [0-9a-f]{64}",
        digest="sha256:{sha256:small.img}",
    )
    yield Fault(
        "silent on each connection", f"{{http}}/stall-always-0/{gz}", "silent", untouched=True, settings=IMPATIENT
    )
    yield Fault("silent in the midst", f"{{http}}/norange+stall-always-2000000/{gz}", "silent", settings=IMPATIENT)
    yield Fault("too slow", f"{{http}}/slow-500000/{gz}", "longer than 2 s", settings={"total_timeout": 2.0})


def _redirects() -> Iterator[Fault]:
    gz = "small.img.gz"
    yield Fault("redirect", f"{{http}}/redirect-http/{gz}")
    yield Fault("redirect to another host", f"{{http}}/redirect-host/{gz}")
    yield refused("redirect to file:", f"{{http}}/redirect-file/{gz}", "redirected to file://")
    yield refused("redirect to ftp:", f"{{http}}/redirect-ftp/{gz}", "redirected to ftp://")
    yield refused("redirect without end", f"{{http}}/redirect-loop/{gz}", "redirects")
    yield refused("self-signed certificate", f"{{https}}/plain/{gz}", "certificate .* not trusted")
    yield Fault("self-signed certificate, CA file", f"{{https}}/plain/{gz}", trusted=True)
    yield Fault("cut under TLS", f"{{https}}/cut-1000000/{gz}", trusted=True, connections=7)
    yield refused("redirect from https to http", f"{{https}}/redirect-http/{gz}", "https to http", trusted=True)


def _swift() -> Iterator[Fault]:
    """A real Swift."""
    gz = "small.img.gz"
    digest = f"sha256:{{sha256:{gz}}}"
    yield Fault("Swift, TempURL", f"{{swift:{gz}}}", digest=digest)
    yield Fault("Swift, TempURL of segments", f"{{swift-segmented:{gz}}}", digest=digest)
    yield Fault("Swift, TempURL, qcow2", "{swift:small-compressed.qcow2}")
    yield refused("Swift, TempURL expired", f"{{swift-expired:{gz}}}", r"\(401\)$")
    yield refused("Swift, TempURL of a wrong key", f"{{swift-wrong:{gz}}}", r"\(401\)$")
    yield Fault("Swift, account", f"{{swift-object:{gz}}}", digest=digest, account="{swift_key}")
    yield refused("Swift, account with a wrong key", f"{{swift-object:{gz}}}", "swift", account="wrong-secret")
    yield refused("Swift, no such object", "swift://images/none.img", r"\(404\)$", account="{swift_key}")
    yield refused("Swift, no such container", "swift://none/small.img", r"\(404\)$", account="{swift_key}")


def _damaged() -> Iterator[Fault]:
    """The bytes come as they are, and are wrong; nobody said what their digest should be."""
    ends = "end|truncated|incomplete"
    for form in FORMS:
        yield Fault(f"truncated {form}", f"{{http}}/plain/truncated.img.{form}", ends)
        yield Fault(f"last 3 bytes missing: {form}", f"{{http}}/plain/clipped.img.{form}", ends)
        yield Fault(f"one byte changed: {form}", f"{{http}}/plain/flipped.img.{form}", "damaged|corrupt|sum|invalid")
        yield Fault(f"garbage behind the end: {form}", f"{{http}}/plain/garbage.img.{form}", "behind|after|trailing")
    for name in ("cut.img", *(f"cut.img.{form}" for form in FORMS), "cut.qcow2"):
        yield Fault(f"shorter than its file system: {name}", f"{{http}}/plain/{name}", "48 MiB .* the image 32 MiB")
    yield Fault("truncated qcow2", "{http}/plain/truncated.qcow2", "end|cut off|outside the file")
    yield refused("qcow2 with a backing file", "{http}/plain/backing.qcow2", "backing")
    yield refused("empty", "{http}/plain/empty.img", "empty")
    yield refused("empty, called gz", "{http}/plain/empty.img.gz", "empty")


def _digests() -> Iterator[Fault]:
    for name in ("small.img", "small.img.gz", "small.qcow2"):
        wrong = f"sha256:{{sha256-wrong:{name}}}"
        yield Fault(f"wrong sha256: {name}", f"{{http}}/plain/{name}", "sha256 is .* was wanted$", digest=wrong)
    for algorithm, digits in (("sha512", 128), ("md5", 32)):
        wrong = f"{algorithm}:{'0' * digits}"
        yield Fault(f"wrong {algorithm}", "{http}/plain/small.img.zst", f"{algorithm} is .* wanted$", digest=wrong)
    # They are told by their ends too, where these are the ends of their volumes: a second table, a RAID superblock.
    for name, size in (("partitioned.img", 50 * MIB), ("member.img", 49 * MIB)):
        wrong = f"sha256:{{sha256-wrong:{name}}}"
        failure = "sha256 is .* was wanted$|partition"
        yield Fault(f"wrong sha256: {name}", f"{{http}}/plain/{name}", failure, digest=wrong, limit=size, guard=0)


def _too_small() -> Iterator[Fault]:
    for name in ("small.img", "small.img.zst", "small.img.xz", "small.qcow2"):
        yield refused(f"volume too small: {name}", f"{{http}}/plain/{name}", "8 MiB more", limit=40 * MIB)
    for name in ("small.img.gz", "small.img.bz2"):
        yield Fault(f"volume too small: {name}", f"{{http}}/plain/{name}", "40 MiB", limit=40 * MIB)
    yield Fault("volume too small, no length", "{http}/nolength/small.img", "40 MiB", limit=40 * MIB)
    yield Fault("volume smaller by a sector", "{http}/plain/small.img.gz", "MiB", limit=48 * MIB - 512)


def _changed() -> Iterator[Fault]:
    """The image is replaced by another one of the same length while it is read."""
    for words in ("changed-3000000", "norange+changed-3000000"):
        for name in ("small.img", "small.img.gz"):
            yield Fault(f"{words}: {name}", f"{{http}}/{words}/{name}", "changed while it was read")
    digest = "sha256:{sha256:small.img}"
    for words in ("noetag+changed-3000000", "lying-range+cut-at-3000000"):
        yield Fault(words, f"{{http}}/{words}/small.img", "sha256 is .* was wanted$", digest=digest)
