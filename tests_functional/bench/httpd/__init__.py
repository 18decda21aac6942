# SPDX-License-Identifier: Apache-2.0
"""An HTTP and HTTPS server for images, which does wrong what a URL asks it to do wrong.

``http://HOST:PORT/SCOPE/FAULT/NAME`` serves a file with a fault (:mod:`tests_functional.bench.httpd.fault`).
What a fault does may depend on the requests so far ("two errors, then success"); they are counted in a scope, so
each user asks for a scope of its own: :meth:`Httpd.new_scope`.

``python -m tests_functional.bench.httpd DIRECTORY`` serves on loopback until it is interrupted.
"""

from tests_functional.bench.httpd.scope import Request, Scope
from tests_functional.bench.httpd.server import Httpd

__all__ = ["Httpd", "Request", "Scope"]
