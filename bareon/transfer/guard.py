# SPDX-License-Identifier: Apache-2.0
"""The end of a request: its connection is shut down when its time is over, wherever it is waited for.

The limits of requests and http.client are for one read each. A server that gives a byte now and then, in its head, in
the size of a chunk, or as a proxy that answers to CONNECT, would hold them for ever.
"""

from __future__ import annotations

import contextlib
import contextvars
import socket
import threading
from typing import Any

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection


class Guard:
    """Shuts the connection of one request down after so many ``seconds``; ``over`` tells whether it was so."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def sees(self, connection: socket.socket) -> None:
        """Take a connection that was just made."""
        with self._lock:
            self._forget()
            # A descriptor of our own: TLS takes that of the connection away.
            self._connection = connection.dup()
            if self.over:
                self._shut()

    def close(self) -> None:
        """Let the connection alone from now on."""
        self._timer.cancel()
        with self._lock:
            self._forget()

    def _end(self) -> None:
        with self._lock:
            self.over = True
            self._shut()

    def _shut(self) -> None:
        if self._connection:
            with contextlib.suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def _forget(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None


def request(guard: Guard, method: str, url: str, **more: Any) -> requests.Response:
    """The answer of ``requests.request``, by a connection that is guarded until ``guard`` is closed."""
    # No session that lasts: a connection that is kept may be closed by the server just when it is used again.
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter())
        token = _GUARD.set(guard)
        try:
            return session.request(method, url, **more)
        finally:
            _GUARD.reset(token)


_GUARD: contextvars.ContextVar[Guard] = contextvars.ContextVar("guard")


class _Plain(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        connection = super()._new_conn()
        _GUARD.get().sees(connection)
        return connection


class _Secure(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        connection = super()._new_conn()
        _GUARD.get().sees(connection)
        return connection


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Secure


_POOLS = {"http": _PlainPool, "https": _SecurePool}


class _Adapter(requests.adapters.HTTPAdapter):
    """Makes guarded connections, to servers and to proxies."""

    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **more)
        if type(manager) is urllib3.ProxyManager:  # one of SOCKS has connections of its own
            manager.pool_classes_by_scheme = _POOLS
        return manager
