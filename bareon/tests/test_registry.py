# SPDX-License-Identifier: Apache-2.0
"""Images of registries that let in, send away, lie and break: what is brought, or one clear line."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import logging
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bareon.errors import BareonError, ImageFailed, UnsuitableNode
from bareon.model.image import Digest
from bareon.model.location import Location
from bareon.model.reference import reference
from bareon.model.settings import TransferSettings
from bareon.tests.imageserver import Fault
from bareon.tests.registry import (
    AMD64,
    CONFIG,
    GZIP,
    INDEX,
    LAYER,
    MANIFEST,
    NAME,
    Running,
    Store,
    archive,
    described,
    digest,
    registry,
    text,
)
from bareon.text import shown
from bareon.transfer.accounts import account
from bareon.transfer.oci import Found, Opening, bring, look
from bareon.transfer.registries import find, opening
from bareon.transfer.tarstream import Member, Walk

SETTINGS = TransferSettings(attempts=3, total_timeout=20, connect_timeout=2, idle_timeout=1, back_off=0.01)
HASH = "0123456789abcdef" * 4
SECRET = "s3cret-of-alice"


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("oci://r.example/a", "https://r.example/v2/a latest"),
        ("oci://R.Example:5000/team/sub/a-b.c__d:v1.2_X", "https://r.example:5000/v2/team/sub/a-b.c__d v1.2_X"),
        (f"oci://r/a@sha256:{HASH}", f"https://r/v2/a latest {HASH}"),
        (f"oci://r/a:1@sha256:{HASH}", f"https://r/v2/a 1 {HASH}"),
        ("oci+http://127.0.0.1:5000/a:1", "http://127.0.0.1:5000/v2/a 1"),
        ("oci://[::1]:5000/a", "https://[::1]:5000/v2/a latest"),
        ("oci://docker.io/debian:12", "https://registry-1.docker.io/v2/library/debian 12"),
        ("oci://docker.io/a/b", "https://registry-1.docker.io/v2/a/b latest"),
        *(
            (f"oci://{x}", None)
            for x in ("r", "r/", "/a", "r/A", "r/a:", "r/a/", "r/a//b", "r/a:-", "r/a?b=c", "r/a#b")
        ),
        *((f"oci://r/a@{x}", None) for x in ("sha256:", f"sha256:{HASH}0", f"md5:{HASH[:32]}", f"sha512:{HASH}")),
        ("oci://alice:secret@r/a", None),
        ("oci://r:0/a", None),
        ("oci://r:x/a", None),
        ("oci://r/../a", None),
        ("oci://r/a%2fb", None),
        ("http://r/a", None),
    ],
)
def test_references(url: str, wanted: str | None) -> None:
    found = reference(Location(url))
    if wanted is None or found is None:
        assert found is wanted
        return
    parts = [found.place.reveal(), found.tag, *([found.digest.value] if found.digest else [])]
    assert " ".join(parts) == wanted


def test_the_digest_of_a_reference_is_shown() -> None:
    assert shown(f"oci://r/a:1@sha256:{HASH}") == f"oci://r/a:1@sha256:{HASH}"
    assert shown(f"oci://alice:secret@r/a@sha256:{HASH}") == f"oci://***@r/a@sha256:{HASH}"


def opens(location: Location, settings: TransferSettings = SETTINGS) -> Opening:
    """What opens the layers of an image."""
    return lambda deadline: opening(location, settings, deadline)


def members(url: str, found: Found, settings: TransferSettings = SETTINGS, room: int = 0) -> list[list[str]]:
    """The names in each layer as they are judged."""
    seen: list[list[str]] = []

    def walk(number: int) -> Walk:
        seen.append([])
        assert number == len(seen) - 1

        def judge(member: Member) -> bool:
            seen[-1].append(member.path)
            return True

        return Walk(judge)

    done: list[tuple[int, int | None]] = []
    brought = bring(
        Location(url),
        found,
        opens(Location(url), settings),
        walk,
        None,
        settings=settings,
        limit=1 << 20,
        room=room,
        progress=lambda now, total: done.append((now, total)),
    )
    assert brought.served == found.size
    assert brought.digest == f"sha256:{found.digest.value}"
    assert done == sorted(done)
    assert {total for _, total in done} <= {found.size}
    return seen


def whole(url: str, settings: TransferSettings = SETTINGS) -> list[list[str]]:
    """All that is done to an image: found, looked at, brought."""
    found = find(Location(url), settings)
    look(Location(url), found, opens(Location(url), settings), settings)
    return members(url, found, settings)


def failed(url: str, settings: TransferSettings = SETTINGS, kind: type[BareonError] = ImageFailed) -> str:
    with pytest.raises(kind) as caught:
        whole(url, settings)
    (line,) = caught.value.lines()
    assert SECRET not in line
    return line


THREE = (["etc/", "etc/a"], ["usr/", "etc/.wh.a"], ["var/"])
NAMES = [["etc", "etc/a"], ["usr", "etc/.wh.a"], ["var"]]


def zstd(data: bytes) -> bytes:
    from backports import zstd as library

    return library.compress(data)


@pytest.mark.parametrize(
    ("pack", "kind"),
    [
        (gzip.compress, GZIP),
        (zstd, f"{LAYER}+zstd"),
        (bytes, LAYER),
        (gzip.compress, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ],
)
def test_layers_arrive_in_their_order(pack: Callable[[bytes], bytes], kind: str) -> None:
    store = Store()
    manifest = store.image(*THREE, tag="v1", pack=pack, kind=kind)
    with registry(store) as running:
        assert whole(f"{running.url}:v1") == NAMES
        assert running.asked[:2] == ["/v2/", "manifests/v1"]
        assert "/vnd.oci.image.index.v1+json" in running.site.requests[1]["Accept"]
        running.site.requests.clear()
        assert whole(f"{running.url}:other@{digest(manifest)}") == NAMES
        assert running.asked[1] == f"manifests/{digest(manifest)}"


def _index(*entries: tuple[bytes, Mapping[str, str] | None], kind: str = MANIFEST) -> bytes:
    found = [described(x, kind) | ({"platform": dict(platform)} if platform else {}) for x, platform in entries]
    return text({"schemaVersion": 2, "mediaType": INDEX, "manifests": found})


def test_of_several_platforms_the_machines_own() -> None:
    store = Store()
    other = store.image(["other"], platform={"os": "linux", "architecture": "s390x"})
    newer = store.image(["newer"], tag="newer")
    mine = store.image(["mine"])
    entries = [(other, {"os": "linux", "architecture": "s390x"}), (newer, {**AMD64, "variant": "v9"}), (mine, AMD64)]
    store.tag("latest", INDEX, _index((other, {"os": "unknown", "architecture": "unknown"}), *entries))
    inner = store.manifests["latest"][1]
    store.tag("nested", INDEX, _index((inner, None), kind=INDEX))
    store.tag("alien", INDEX, _index(*entries[:2]))
    with registry(store) as running:
        assert whole(running.url) == whole(f"{running.url}:nested") == [["mine"]]
        line = failed(f"{running.url}:alien")
        assert line.endswith("has nothing for linux/amd64: it is for linux/s390x, linux/amd64/v9")
        assert failed(f"{running.url}@{digest(other)}").endswith(
            "is for linux/s390x, and this machine is linux/amd64"
        )


def _deep(store: Store) -> None:
    found = store.image(["a"])
    for number in range(3):
        found = store.tag(f"{number}", INDEX, _index((found, None), kind=INDEX if number else MANIFEST))
    store.tag("latest", INDEX, found)


def _with(**more: Any) -> Callable[[Store], object]:
    return lambda store: store.image(["a"], **more)


def _other(kind: str, data: bytes) -> Callable[[Store], object]:
    return lambda store: store.tag("latest", kind, data)


def _spoiled(store: Store, place: int, data: Callable[[bytes], bytes]) -> None:
    """Other bytes at the digest of a blob: 0 is the layer, 1 the configuration."""
    store.image(["a" * 90])
    key = list(store.blobs)[place]
    store.blobs[key] = data(store.blobs[key])


OF_LAYER = {"size": 3, "digest": f"sha256:{HASH}"}


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda store: None, "there is no such image on the server"),
        (_deep, "has an index in an index in an index"),
        (_other(MANIFEST, b"<html>"), "has a document that cannot be read"),
        (_other(MANIFEST, b"[" * 100000), "has a document that cannot be read"),
        (_other(MANIFEST, b"[]"), "has a document that cannot be read"),
        (_other(MANIFEST, b"{}"), "is no image: its media type is"),
        (_other("text/html", b'{"layers": []}'), "is no image: its media type is 'text/html'"),
        (_other(INDEX, text({"manifests": [], "layers": []})), "may be an index or a manifest"),
        (_other(INDEX, text({"manifests": []})), "it is for nothing"),
        (_other(INDEX, text({"manifests": {}})), "whose manifests are no list"),
        (_other(INDEX, text({"manifests": [1]})), "refers to what has no form"),
        (_other(INDEX, text({"manifests": [{"size": 1}]})), "has no media type, SHA-2 digest and size"),
        (_other(MANIFEST, text({"layers": []})), "a manifest without a configuration"),
        (_other("application/vnd.docker.distribution.manifest.v1+prettyjws", b"{}"), "no longer used"),
        (_other(MANIFEST, b" " * (5 << 20)), "is too large for a manifest"),
        (_with(manifest={"layers": []}), "has 0 layers: 1 to 512"),
        (_with(manifest={"layers": [{**OF_LAYER, "mediaType": LAYER}] * 513}), "has 513 layers"),
        (
            _with(manifest={"layers": [{**OF_LAYER, "mediaType": f"{LAYER}+xz"}]}),
            "a layer of a kind that is not known",
        ),
        (
            _with(kind="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
            "a layer that registries must not have",
        ),
        (
            _with(kind="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            "a layer that registries must not have",
        ),
        (_with(manifest={"layers": [{**OF_LAYER, "mediaType": LAYER, "size": True}]}), "media type, SHA-2 digest"),
        (_with(manifest={"layers": [{**OF_LAYER, "mediaType": LAYER, "digest": "md5:00"}]}), "SHA-2 digest"),
        (_with(manifest={"layers": [{**OF_LAYER, "mediaType": LAYER, "size": 10**4000}]}), "SHA-2 digest and size"),
        (_with(manifest={"artifactType": "application/x.chart"}), "is no image of a system: it holds 'application/x"),
        (_with(manifest={"config": {**OF_LAYER, "mediaType": "application/vnd.oci.empty.v1+json"}}), "of a system"),
        (
            _with(manifest={"config": {**OF_LAYER, "mediaType": CONFIG, "size": 5 << 20}}),
            "a configuration of 5242880",
        ),
        (_with(config={"rootfs": {}}), "whose diff_ids are no list"),
        (_with(config={"rootfs": {"diff_ids": []}}), "has 1 layers, and a configuration with digests of 0"),
        (_with(config={"rootfs": {"diff_ids": ["x"]}}), "and a configuration with digests of 0"),
        (_with(config={"rootfs": {"diff_ids": [f"sha256:{HASH}"]}}), f"decoded, its sha256 is .*, {HASH} was wanted"),
        (_with(config={"os": "windows"}), "is for windows/amd64, and this machine is linux/amd64"),
        (_with(platform={}), "is for nothing that is known|is for , and"),
        (_with(pack=lambda data: b"BZh91AY&SY" + data), "is packed by bzip2: layers come plain, or by gzip or zstd"),
        (_with(pack=lambda data: b"<html>" * 300), "layer 1 of 1 \\(.*\\): is a web page"),
        (_with(pack=lambda data: b"\xff\xee\0" * 900), "layer 1 of 1 \\(.*\\): is no tar archive"),
        (lambda store: _spoiled(store, 0, lambda data: data[:-1]), "has [0-9]+ bytes, [0-9]+ are wanted"),
        (lambda store: _spoiled(store, 0, lambda data: data + b"x"), "has [0-9]+ bytes, [0-9]+ are wanted"),
        (lambda store: _spoiled(store, 0, lambda data: data[:4] + b"\1" + data[5:]), "its sha256 is"),
        (lambda store: _spoiled(store, 1, lambda data: data[:-1] + b" "), "a configuration that is not the one"),
        (lambda store: store.blobs.pop(next(iter(store.blobs)), None) if store.image(["a"]) else 0, "no such image"),
    ],
)
def test_what_is_no_image(made: Callable[[Store], object], says: str) -> None:
    store = Store()
    made(store)
    with registry(store) as running:
        line = failed(running.url)
    assert re.search(says, line), line


def _encoding(store: Store, coding: str, pack: Callable[[bytes], bytes]) -> Callable[[Mapping[str, str]], Fault]:
    """A registry that packs all that it has on the way."""

    def answer(request: Mapping[str, str]) -> Fault:
        found = store.answer(request)
        if found.body is None:
            return found
        return replace(found, headers={**found.headers, "Content-Encoding": coding}, body=pack(found.body))

    return answer


@pytest.mark.parametrize(("coding", "added"), [("gzip", gzip.compress), ("zstd", zstd)])
@pytest.mark.parametrize(("pack", "kind"), [(gzip.compress, GZIP), (bytes, LAYER)])
@pytest.mark.parametrize("room", [0, 1 << 20])
@pytest.mark.pain("content-encoding")
def test_what_a_server_encodes_is_undone(
    coding: str, added: Callable[[bytes], bytes], pack: Callable[[bytes], bytes], kind: str, room: int
) -> None:
    store = Store()
    wanted = store.image(*THREE, pack=pack, kind=kind)
    with registry(store) as running:
        running.before = _encoding(store, coding, added)
        assert whole(f"{running.url}@{digest(wanted)}") == NAMES
        assert members(running.url, find(Location(running.url), SETTINGS), room=room) == NAMES


@pytest.mark.parametrize("room", [0, 1 << 20])
def test_an_encoding_that_is_the_layers_own_packing_is_none(room: int) -> None:
    store = Store()
    store.image(*THREE)
    with registry(store) as running:
        packing = {"Content-Encoding": "gzip"}
        found = find(Location(running.url), SETTINGS)
        running.before = lambda request: (
            replace(store.answer(request), headers=packing) if "blobs" in request["path"] else None
        )
        look(Location(running.url), found, opens(Location(running.url)), SETTINGS)
        assert members(running.url, found, room=room) == NAMES


@pytest.mark.parametrize("room", [0, 1 << 20])
@pytest.mark.parametrize(
    ("coding", "body", "says"),
    [
        ("gzip", gzip.compress(bytes(4 << 20)), "has more than the [0-9]+ bytes that are wanted"),
        ("gzip", b"x", "says Content-Encoding: gzip, and sends something else"),
        ("gzip", gzip.compress(b"x" * 900)[:-9], "damaged|cut off|its sha256 is"),
        ("zstd", zstd(gzip.compress(archive("war/"), mtime=0)), "its sha256 is"),
        ("br", b"x", "the server encodes it \\(Content-Encoding: br\\).*: serve the file as it is"),
        ("gzip, " * 9000, b"x", "the server encodes it .{,300}: serve the file as it is"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else str(value)[:20],
)
def test_what_a_server_encodes_otherwise(coding: str, body: bytes, says: str, room: int) -> None:
    store = Store()
    store.image(*THREE)
    blob = list(store.blobs)[2]
    with registry(store) as running:
        found = find(Location(running.url), SETTINGS)
        encoded = Fault(200, {"Content-Encoding": coding}, body=body)
        running.before = lambda request: encoded if blob in request["path"] else None
        with pytest.raises(ImageFailed, match=f"^[^ ]+: layer 3 of 3 [^ ]+: .*({says})"):
            members(running.url, found, room=room)


def test_a_document_that_a_server_encodes_has_the_same_limit() -> None:
    store = Store()
    store.tag("latest", MANIFEST, b" " * (5 << 20))
    with registry(store) as running:
        running.before = _encoding(store, "gzip", gzip.compress)
        assert "is too large for a manifest" in failed(running.url)


@pytest.mark.parametrize("room", [0, 1 << 20])
def test_a_layer_that_comes_twice(room: int) -> None:
    store = Store()
    store.image(THREE[0], THREE[1], THREE[0])
    with registry(store) as running:
        found = find(Location(running.url), SETTINGS)
        assert members(running.url, found, room=room) == [NAMES[0], NAMES[1], NAMES[0]]


def test_a_manifest_that_is_another() -> None:
    store = Store()
    wanted = digest(store.image(["a"]))
    other = store.image(["b"])
    with registry(store) as running:
        store.manifests[wanted] = MANIFEST, other
        assert f"{wanted[7:]} was wanted" in failed(f"{running.url}@{wanted}")
        said = Fault(200, {"Docker-Content-Digest": wanted, "Content-Type": MANIFEST}, body=other)
        running.before = lambda request: said if "manifests" in request["path"] else None
        assert f"{wanted[7:]} is what the registry says" in failed(running.url)


def test_broken_connections_are_resumed() -> None:
    store = Store()
    store.image(["a"], pack=bytes, kind=LAYER)
    blob = next(iter(store.blobs.values()))
    with registry(store) as running:
        found = find(Location(running.url), SETTINGS)
        running.site.requests.clear()
        faults = [Fault(503), Fault(body=blob, cut=700), Fault(503), Fault(body=blob, cut=2000)]
        running.before = lambda request: faults.pop(0) if faults and "blobs" in request["path"] else None
        assert members(running.url, found) == [["a"]]
        assert [x.get("Range") for x in running.site.requests[1:]] == [
            None,
            None,
            "bytes=700-",
            "bytes=700-",
            "bytes=2700-",
        ]
        faults = [Fault(502)]
        running.before = lambda request: faults.pop(0) if faults and "manifests" in request["path"] else None
        assert whole(running.url) == [["a"]]
        running.before = lambda request: Fault(502) if "manifests" in request["path"] else None
        assert "answers with an error 502, 3 attempts in a row" in failed(running.url)


def test_another_registry_goes_on_where_one_fails() -> None:
    store = Store()
    store.image(*THREE)
    blobless = copy.deepcopy(store)
    layer = list(store.blobs)[1]
    with registry(store) as good, registry(blobless) as bad, registry(Store()) as empty:
        mirrors = (Location(bad.url), Location(good.url))
        location = Location(empty.url, mirrors)
        found = find(location, SETTINGS)
        del blobless.blobs[layer]
        look(location, found, opens(location), SETTINGS)
        seen: list[str] = []
        brought = bring(
            location,
            found,
            opens(location),
            lambda number: Walk(lambda member: not seen.append(member.path)),
            None,
            settings=SETTINGS,
            limit=1 << 20,
            progress=lambda now, total: None,
        )
        assert (seen, brought.served) == ([x for names in NAMES for x in names], found.size)


@pytest.mark.parametrize("room", [0, 1 << 20])
def test_layers_are_fetched_ahead_where_there_is_room(room: int) -> None:
    store = Store()
    store.image(*THREE)
    blobs = list(store.blobs)[:3]
    asked = {blob: threading.Event() for blob in blobs}
    early: list[bool] = []

    def before(request: Mapping[str, str]) -> None:
        blob = request["path"].rpartition("/")[2]
        if blob in asked:
            asked[blob].set()
        if blob == blobs[0]:
            early.extend(asked[x].wait(60 if room else 0.1) for x in blobs[1:])

    with registry(store) as running:
        found = find(Location(running.url), SETTINGS)
        running.before = before
        patient = replace(SETTINGS, idle_timeout=60, total_timeout=120)
        assert members(running.url, found, patient, room) == NAMES
    assert early == [bool(room)] * 2


def test_what_fails_ahead_is_told_of_its_layer() -> None:
    store = Store()
    store.image(*THREE)
    with registry(store) as running:
        found = find(Location(running.url), SETTINGS)
        gone = store.blobs.pop(list(store.blobs)[2])
        with pytest.raises(ImageFailed, match=r"layer 3 of 3 .*: there is no such image"):
            members(running.url, found, room=1 << 20)
        store.put(gone)
        faults = [Fault(503), Fault(body=gone, cut=40)]
        running.before = lambda request: faults.pop(0) if faults and digest(gone) in request["path"] else None
        assert members(running.url, found, room=1 << 20) == NAMES
        assert not faults


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Callable[[Any], Any], TransferSettings]:
    """What makes a server one with TLS, and settings that trust it and have an account file for any registry."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")]
    subprocess.run([*command.split(), "-addext", names, *files], check=True, capture_output=True, timeout=20)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    settings = replace(SETTINGS, ca_file=str(tmp_path / "cert"), auth_file=str(tmp_path / "auth.json"))
    return lambda sock: context.wrap_socket(sock, server_side=True), settings


def accounts(settings: TransferSettings, host: str, name: str = "alice") -> None:
    """Write the file of accounts, with one for a registry."""
    packed = base64.b64encode(f"{name}:{SECRET}".encode()).decode()
    Path(str(settings.auth_file)).write_text(json.dumps({"auths": {host: {"auth": packed}}}))


ALICE = f"Basic {base64.b64encode(f'alice:{SECRET}'.encode()).decode()}"


def _basic(request: Mapping[str, str]) -> Fault | None:
    return None if request.get("Authorization") == ALICE else Fault(401, {"WWW-Authenticate": 'Basic realm="x"'})


def test_an_account_by_https(tls: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrap, settings = tls
    store = Store()
    store.image(*THREE)
    with registry(store, wrap) as running:
        running.before = _basic
        accounts(settings, running.host)
        assert whole(running.url, settings) == NAMES
        accounts(settings, "other.example")
        assert "auth.json has none for it" in failed(running.url, settings, UnsuitableNode)
        without = replace(settings, auth_file=None)
        assert "by --image_auth_file" in failed(running.url, without, UnsuitableNode)
        accounts(settings, running.host, "bob")
        assert "asks for credentials" in failed(running.url, settings)
    assert SECRET not in caplog.text
    assert ALICE[6:] not in caplog.text


def test_an_account_is_told_to_nobody_else(tls: Any) -> None:
    wrap, settings = tls
    store = Store()
    store.image(["a"])
    with registry(store) as plain, registry(store, wrap) as running, registry(store, wrap, "localhost") as other:
        plain.before = _basic
        accounts(settings, plain.host)
        assert "told by https alone" in failed(plain.url, settings, UnsuitableNode)
        accounts(settings, running.host)

        def elsewhere(request: Mapping[str, str]) -> Fault | None:
            there = other.site.url.replace("/image", request["path"])
            return _basic(request) or (Fault(307, {"Location": there}) if "blobs" in request["path"] else None)

        running.before = elsewhere
        assert whole(running.url, settings) == [["a"]]
        assert {"Authorization"} & {key for request in other.site.requests for key in request} == set()
        assert other.site.requests
        back = plain.site.url
        running.before = lambda request: Fault(307, {"Location": back}) if "blobs" in request["path"] else None
        assert "redirected from https to http" in failed(running.url, settings)


@pytest.mark.parametrize("redirected", ["/blobs/", "/v2/"])
def test_only_the_registry_says_who_is_told_the_account(redirected: str, tls: Any) -> None:
    wrap, settings = tls
    store = Store()
    store.image(["a"])
    with registry(store, wrap) as running, registry(store, wrap, "localhost") as other:
        accounts(settings, running.host)
        there, realm = (other.site.url.replace("/image", x) for x in ("/storage", "/token"))
        away = Fault(307, {"Location": there})
        running.before = lambda request: away if redirected in request["path"] else None
        asks = Fault(401, {"WWW-Authenticate": f'Bearer realm="{realm}"'})
        other.before = lambda request: Fault(200, body=text({"token": "x"})) if "/token" in request["path"] else asks
        line = failed(running.url, settings)
        assert f"127.0.0.1 redirects to {other.host}, which asks for credentials: those go to no other host" in line
        assert {x["path"] for x in other.site.requests} == {"/storage"}
        assert not [x for x in other.site.requests if "Authorization" in x]


class Tokens:
    """A server of tokens for a registry; each token is good for so many requests."""

    def __init__(self, running: Running, realm: str, good_for: int = 1000) -> None:
        self.realm, self.good_for = realm, good_for
        self.asked: list[Mapping[str, str]] = []
        self.left = 0
        running.before = self.answer

    def answer(self, request: Mapping[str, str]) -> Fault | None:
        if request["path"].startswith("/token"):
            self.asked.append(request)
            self.left = self.good_for
            return Fault(200, body=text({"token": f"t{len(self.asked)}", "expires_in": 60}))
        self.left -= 1
        if self.left >= 0 and request.get("Authorization") == f"Bearer t{len(self.asked)}":
            return None
        challenge = f'Bearer realm="{self.realm}",service="the registry",scope="repository:other:push"'
        return Fault(401, {"WWW-Authenticate": challenge})


@pytest.mark.parametrize("good_for", [1000, 1])
def test_tokens_are_asked_for_again_when_they_end(good_for: int) -> None:
    store = Store()
    store.image(*THREE)
    with registry(store) as running:
        tokens = Tokens(running, running.site.url.replace("/image", "/token?a=b"), good_for)
        assert whole(running.url) == NAMES
        query = parse_qs(urlsplit(tokens.asked[0]["path"]).query)
        assert query == {"a": ["b"], "service": ["the registry"], "scope": [f"repository:{NAME}:pull"]}
        assert "Authorization" not in tokens.asked[0]
        assert (len(tokens.asked) == 3) == (good_for == 1000)  # find, look and bring have one each


def test_a_token_for_an_account(tls: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrap, settings = tls
    store = Store()
    store.image(*THREE)
    with registry(store, wrap) as running, registry(store) as plain:
        accounts(settings, running.host)
        tokens = Tokens(running, running.site.url.replace("/image", "/token"))
        assert whole(running.url, settings) == NAMES
        assert tokens.asked[0]["Authorization"] == ALICE
        tokens.realm = plain.site.url.replace("/image", "/token")
        assert "a server for tokens without https, which is not asked" in failed(running.url, settings)
        assert not plain.site.requests
        for realm in ("", "file:///etc/passwd", "https://alice@host/token", "https://"):
            tokens.realm = realm
            assert "names no server that gives tokens" in failed(running.url, settings)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Fault(401), "refuses whoever has no account a token"),
        (Fault(200, body=b"{}"), "gives no token"),
        (Fault(200, body=b"<html>"), "gives no token"),
        (Fault(200, body=text({"token": "a\r\nb"})), "gives no token"),
        (Fault(200, body=b" " * (2 << 20)), "is too large for a token"),
    ],
)
def test_servers_that_give_no_token(answer: Fault, says: str) -> None:
    with registry(Store()) as running:
        tokens = Tokens(running, running.site.url.replace("/image", "/token"))
        running.before = lambda request: answer if "/token" in request["path"] else tokens.answer(request)
        assert says in failed(running.url)


@pytest.mark.parametrize("words", ["a" * 60_000, 'a="' * 20_000, "a_=" * 20_000, f'realm="{"a" * 60_000}"'])
def test_a_challenge_without_end_is_read_at_once(words: str) -> None:
    with registry(Store()) as running:
        running.before = lambda request: Fault(401, {"WWW-Authenticate": f"Bearer {words}"})
        started = time.monotonic()
        assert "names no server that gives tokens" in failed(running.url)
        assert time.monotonic() - started < 10


def test_what_is_no_registry() -> None:
    with registry(Store()) as running:
        running.before = lambda request: Fault(404)
        assert "127.0.0.1 is no registry" in failed(running.url)
        running.before = lambda request: Fault(401, {"WWW-Authenticate": "Negotiate"})
        assert "credentials of a kind that is not known ('Negotiate')" in failed(running.url)


@pytest.mark.parametrize(
    ("auths", "url", "wanted"),
    [
        ({"r:5000": {"auth": "YTpiOmM="}}, "oci://r:5000/a", ("a", "b:c")),
        ({"r:5000": {"username": "u", "password": "p"}}, "oci://r:5000/a", ("u", "p")),
        ({"r": {"auth": "YTpi"}}, "oci://r:5000/a", None),
        ({"r/team": {"auth": "YTpi"}, "r": {"auth": "Yzpk"}}, "oci://r/team/a", ("a", "b")),
        ({"r/team": {"auth": "YTpi"}, "r": {"auth": "Yzpk"}}, "oci://r/teams/a", ("c", "d")),
        ({"https://r/v2/": {"auth": "YTpi"}}, "oci://r/a", ("a", "b")),
        ({"https://index.docker.io/v1/": {"auth": "YTpi"}}, "oci://docker.io/debian", ("a", "b")),
        ({"r": {}}, "oci://r/a", None),
        ({}, "oci://r/a", None),
    ],
)
def test_accounts(auths: object, url: str, wanted: tuple[str, str] | None, tmp_path: Path) -> None:
    found = reference(Location(url))
    assert found
    (tmp_path / "auth").write_text(json.dumps({"auths": auths, "credsStore": "desktop"}))
    assert account(str(tmp_path / "auth"), found) == wanted


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("s3cret", "is no file of accounts"),
        ("[]", "is no file of accounts"),
        ('{"auths": []}', "is no file of accounts"),
        ('{"auths": {"r": "s3cret"}}', "is no file of accounts"),
        ('{"auths": {"r": {"auth": "s3cret"}}}', "is no file of accounts"),
        ('{"auths": {"r": {"auth": "czNjcmV0"}}}', "is no file of accounts"),
        ('{"auths": {"r": {"username": "s3cret"}}}', "is no file of accounts"),
        ('{"auths": {"r": {"identitytoken": "s3cret"}}}', "has an identity token for r, and needs a password"),
        (None, "cannot be read: No such file"),
    ],
)
def test_files_that_have_no_accounts(content: str | None, says: str, tmp_path: Path) -> None:
    found = reference(Location("oci://r/a"))
    assert found
    if content is not None:
        (tmp_path / "auth").write_text(content)
    with pytest.raises(UnsuitableNode, match=says) as caught:
        account(str(tmp_path / "auth"), found)
    assert "s3cret" not in str(caught.value)


def test_a_digest_is_of_the_manifest() -> None:
    store = Store()
    manifest = store.image(["a"])
    with registry(store) as running:
        assert find(Location(running.url), SETTINGS).digest == Digest("sha256", digest(manifest)[7:])
