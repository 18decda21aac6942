# SPDX-License-Identifier: Apache-2.0
"""A proxy for TCP connections that breaks them: what happens when a server dies in the middle."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Sequence

#: Makes closing a socket a reset, as the death of a server does: linger for 0 s.
_RESET = struct.pack("ii", 1, 0)
_PIECE = 1 << 16


class CuttingProxy:
    """Listens on a free port of ``address`` and passes connections on to ``server``.

    :param cuts: bytes from the server after which a connection is cut; each is used once, and then none is cut
    :param always: use the last one again and again
    """

    def __init__(self, address: str, server: tuple[str, int], cuts: Sequence[int], *, always: bool = False) -> None:
        self._server = server
        self._cuts = list(cuts)
        self._always = always
        self._lock = threading.Lock()
        self._listener = socket.create_server((address, 0))
        self.address, self.port = address, self._listener.getsockname()[1]

    def start(self) -> None:
        """Begin to accept connections, in threads that end with the process or with :meth:`stop`."""
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Accept no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(self._server) as server:
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            passed = 0
            while data := server.recv(_PIECE):
                passed += len(data)
                if self._is_cut_after(passed):
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    # The other thread waits for more from the client, and while it does, closing does nothing.
                    client.shutdown(socket.SHUT_RD)
                    return
                client.sendall(data)

    def _is_cut_after(self, passed: int) -> bool:
        """Whether now is the moment. A connection that ends before, such as one that only asks, takes no cut."""
        with self._lock:
            if not self._cuts or passed < self._cuts[0]:
                return False
            if len(self._cuts) > 1 or not self._always:
                self._cuts.pop(0)
            return True


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_PIECE):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
