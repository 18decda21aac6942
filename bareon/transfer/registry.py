# SPDX-License-Identifier: Apache-2.0
"""A repository of a registry, by the OCI distribution specification: documents, blobs, and the way in.

The registry says by what it lets in: nothing, an account, or a token that a server of its choice gives for one. An
account is told to nobody but the registry and that server, and by https alone.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from collections.abc import Callable
from urllib.parse import urlencode

from bareon.errors import ImageFailed, UnsuitableNode
from bareon.model.image import Digest
from bareon.model.location import Location
from bareon.model.reference import Reference, as_digest
from bareon.model.settings import TransferSettings
from bareon.text import counted, visible
from bareon.transfer.accounts import account
from bareon.transfer.coding import Undone, told, undone
from bareon.transfer.deadline import Deadline, retrying
from bareon.transfer.failure import Broken, NotThere
from bareon.transfer.http import Answer, Client
from bareon.transfer.manifest import INDEXES, LARGEST, MANIFESTS, Descriptor, Document, digest_of
from bareon.transfer.resume import HttpSource

LOG = logging.getLogger(__name__)

_ACCEPTED = ", ".join((*MANIFESTS, *INDEXES))
_TOKEN = 1 << 20  # bytes of the answer with a token
#: Nothing is looked at from each of its letters anew: a hostile header has thousands of them and no end.
_PARAMETER = re.compile(r'(?<![A-Za-z_])([A-Za-z_]++)="([^"]*)"')


class Registry:
    """One repository of a registry. It may be asked from several threads."""

    def __init__(self, wanted: Reference, settings: TransferSettings, deadline: Deadline) -> None:
        self._wanted = wanted
        self._settings = settings
        self._deadline = deadline
        self._client = Client(settings, deadline)
        self._lock = threading.Lock()
        self._headers: dict[str, str] | None = None

    def document(self, digest: Digest | None = None, tag: str | None = None) -> Document:
        """As :meth:`bareon.transfer.oci.Store.document`; the image begins with the reference's tag.

        :raises UnsuitableNode: when an account is needed and there is none.
        """
        name = f"{digest.algorithm}:{digest.value}" if digest else tag or self._wanted.tag
        answer = self._retried(lambda: self._read(self._place(f"manifests/{name}"), _ACCEPTED))
        text, kind, said = answer
        told = digest or as_digest(said)
        found = digest_of(text, told)
        if told and found != told:
            what = "was wanted" if digest else "is what the registry says"
            raise ImageFailed(f"the {told.algorithm} of its manifest is {found.value}, {told.value} {what}")
        return Document(text, kind, found)

    def blob(self, wanted: Descriptor, deadline: Deadline | None = None) -> Undone:
        """The source of a blob, whose digest is still to be checked."""
        place = self._place(f"blobs/{wanted}")
        served = HttpSource(
            place,
            self._settings,
            deadline or self._deadline,
            lambda again: (place, self._let(place, again)),
            wanted.size,
        )
        return Undone(served, wanted.size)

    def _place(self, path: str) -> Location:
        return Location(f"{self._wanted.place.reveal()}/{path}")

    def _read(self, place: Location, accepted: str) -> tuple[bytes, str, str | None]:
        answer = self._client.get(place, {"Accept": accepted}, self._let(place, False))
        if answer.status == 401:
            answer.close()
            answer = self._client.get(place, {"Accept": accepted}, self._let(place, True))
        try:
            if answer.status != 200:
                raise ImageFailed(answer.refusal)
            kind, said = answer.header("Content-Type") or "", answer.header("Docker-Content-Digest")
            return _whole(answer, LARGEST, "a manifest"), kind, said
        finally:
            answer.close()

    def _retried(self, once: Callable[[], tuple[bytes, str, str | None]]) -> tuple[bytes, str, str | None]:
        again = retrying(
            self._settings,
            lambda error: isinstance(error, Broken),
            lambda error, number: LOG.warning("%s: %s, trying again", self._wanted.place, error),
            self._deadline.pause,
            lambda error: error.after if isinstance(error, Broken) else 0.0,
        )
        try:
            return again(once)
        except Broken as broken:
            self._deadline.check()
            raise ImageFailed(f"{broken}, {counted(self._settings.attempts, 'attempt')} in a row") from None

    def _let(self, place: Location, again: bool) -> dict[str, str]:
        """The headers that open a place of the registry.

        :param again: the last ones were refused.
        """
        with self._lock:
            if self._headers is None or again:
                self._headers = self._asked(place if again else place.joined("/v2/"))
            return self._headers

    def _asked(self, place: Location) -> dict[str, str]:
        try:
            answer = self._client.get(place, {}, {})
        except NotThere as error:
            if place.path == "/v2/":
                raise ImageFailed(f"{place.host} is no registry: {error}") from None
            raise
        answer.close()
        if answer.status != 401:
            return {}
        if answer.server != place.server:  # whoever serves the blobs would name a server that is told the account
            _, host, port = answer.server
            raise ImageFailed(
                f"{place.host} redirects to {visible(host)}:{port}, which asks for credentials: "
                "those go to no other host"
            )
        scheme, _, rest = (answer.header("WWW-Authenticate") or "").strip().partition(" ")
        if scheme.lower() == "basic":
            return self._basic(place)
        if scheme.lower() != "bearer":
            raise ImageFailed(
                f"{place.host} wants credentials of a kind that is not known ({visible(scheme)[:40]!r})"
            )
        return self._bearer(place, dict(_PARAMETER.findall(rest)))

    def _basic(self, place: Location) -> dict[str, str]:
        if place.scheme != "https":
            raise UnsuitableNode(f"{place.host} asks for an account, and those are told by https alone: use oci://")
        if found := self._account():
            return found
        where = self._settings.auth_file
        lack = f"{where} has none for it" if where else "name a file with one by --image_auth_file"
        raise UnsuitableNode(f"{place.host} asks for an account, {lack}")

    def _account(self) -> dict[str, str]:
        """The account of the file as a header; empty where it has none."""
        path = self._settings.auth_file
        found = account(path, self._wanted) if path else None
        if found is None:
            return {}
        return {"Authorization": f"Basic {base64.b64encode(':'.join(found).encode()).decode()}"}

    def _bearer(self, place: Location, said: dict[str, str]) -> dict[str, str]:
        """A token from the server that the registry names; without an account it may give one to anybody."""
        realm = Location(said.get("realm", ""))
        if realm.scheme not in ("http", "https") or not realm.sound or not realm.host or realm.account:
            raise ImageFailed(f"{place.host} names no server that gives tokens")
        if place.scheme == "https" and realm.scheme != "https":
            raise ImageFailed(f"{place.host} names a server for tokens without https, which is not asked")
        asked = {"scope": f"repository:{self._wanted.repository}:pull"}
        asked |= {"service": said["service"]} if "service" in said else {}
        url = f"{realm.reveal()}{'&' if realm.query else '?'}{urlencode(asked)}"
        own = self._account() if realm.scheme == place.scheme == "https" else {}
        answer = self._client.get(Location(url), {"Accept": "application/json"}, own)
        try:
            if answer.status != 200:
                refused = f"the account in {self._settings.auth_file}" if own else "whoever has no account"
                raise ImageFailed(f"{realm.host} refuses {refused} a token for {place.host} ({answer.status})")
            text = _whole(answer, _TOKEN, "a token")
        finally:
            answer.close()
        return {"Authorization": f"Bearer {_token(text, realm.host)}"}


def _token(text: bytes, host: str) -> str:
    try:
        value = json.loads(text)
        token = value.get("token") or value.get("access_token")
    except (ValueError, AttributeError, RecursionError):
        token = None
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise ImageFailed(f"{host} gives no token")
    return token


def _whole(answer: Answer, limit: int, what: str) -> bytes:
    buffer = memoryview(bytearray(limit + 1))
    filled = 0
    while filled <= limit and (count := answer.readinto(buffer[filled:])):
        filled += count
    text = bytearray(buffer[:filled])
    coding = told(answer.header("Content-Encoding"), "")
    if coding and filled <= limit:
        served, text = bytes(text), bytearray()
        for piece in undone(coding, served, [memoryview(served)]):
            text += piece
            if len(text) > limit:
                break
    if len(text) > limit:
        raise ImageFailed(f"is too large for {what}")
    return bytes(text)
