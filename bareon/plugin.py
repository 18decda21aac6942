# SPDX-License-Identifier: Apache-2.0
"""Loading of plug-ins by name, and attribution of unexpected exceptions to the plug-in that raised them."""

from __future__ import annotations

import contextlib
import functools
import logging
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from bareon.errors import BareonError, UnsuitableNode, UsageError

LOG = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class _Foreign:
    """A plug-in that is not bareon's: its name, its module, and the package that brought it."""

    name: str
    module: str
    package: str


_foreign: list[_Foreign] = []


def load(namespace: str, name: str, base: type[T]) -> T:
    """An instance of the plug-in ``name``, which must derive from ``base``.

    :raises UsageError: when there is no such plug-in; the message lists those there are.
    :raises UnsuitableNode: when it fails to import or is of another kind.
    """
    # importlib.metadata answers in a tenth of the time stevedore's cache takes to be built for one name.
    points = _points().select(group=namespace)
    found = [point for point in points if point.name == name]
    if not found:
        known = ", ".join(sorted({point.name for point in points})) or "none"
        raise UsageError(f"{namespace} has no plug-in {name!r}; there are: {known}")
    if len({point.value for point in found}) > 1:
        clash = ", ".join(sorted(point.value for point in found))
        raise UnsuitableNode(f"{namespace}: the name {name!r} is claimed by {clash}; uninstall all but one")
    driver = _instance(namespace, name, base)
    module = type(driver).__module__
    if module.partition(".")[0] != "bareon":
        package = f"{found[0].dist.name} {found[0].dist.version}" if found[0].dist else "an unknown package"
        _foreign.append(_Foreign(name, module, package))
    if getattr(driver, "name", name) != name:
        raise UnsuitableNode(f"{namespace}: plug-in {name!r} calls itself {driver.name!r}")  # type: ignore[attr-defined]
    return driver


def names(namespace: str) -> list[str]:
    """The names of all plug-ins."""
    return sorted({point.name for point in _points().select(group=namespace)})


@functools.cache
def _points() -> Any:
    """The entry points of all installed packages, whose files are read once in a run."""
    import importlib.metadata

    return importlib.metadata.entry_points()


@contextlib.contextmanager
def blamed(kind: type[BareonError]) -> Iterator[None]:
    """Turn an unexpected exception of a foreign plug-in into an error of ``kind`` that names the plug-in.

    Other exceptions go on: one that passed through no foreign plug-in is a bug of bareon.
    """
    try:
        yield
    except BareonError:
        raise
    except (Exception, SystemExit) as error:
        guilty = _guilty(error)
        if guilty is None:
            raise
        LOG.error("%s", guilty, exc_info=error)
        raise kind(f"{guilty}: {type(error).__name__}: {error}") from error


def _guilty(error: BaseException) -> str | None:
    """The foreign plug-in of the innermost frame in the traceback, and the place; ``None`` if there is none."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = str(frame.f_globals.get("__name__"))
        known = [x for x in _foreign if x.module.partition(".")[0] == module.partition(".")[0]]
        if known:
            names = sorted({x.name for x in known if x.module == module} or {x.name for x in known})
            where = f"{module}, line {line}, in {frame.f_code.co_name}"
            return f"plug-in {', '.join(names)} of {known[0].package} failed ({where})"
    return None


def returned(value: T, kind: type, who: str) -> T:
    """``value``, which a method of a plug-in returned.

    :raises UnsuitableNode: naming ``who`` when it is not of the ``kind`` that it must be.
    """
    if not isinstance(value, kind):
        raise UnsuitableNode(f"plug-in {who} returned {type(value).__name__}, not {kind.__name__}")
    return value


def _instance(namespace: str, name: str, base: type[T]) -> T:
    from stevedore.driver import DriverManager
    from stevedore.exception import MultipleMatches, NoMatches

    failures: list[str] = []

    def failed(_manager: Any, point: Any, error: BaseException) -> None:
        failures.append(f"{point.value}: {type(error).__name__}: {error}")

    try:
        manager = DriverManager(
            namespace,
            name,
            invoke_on_load=True,
            on_load_failure_callback=failed,
        )
    except (NoMatches, MultipleMatches, AssertionError, SystemExit) as error:
        if not isinstance(error, NoMatches):  # which says nothing of its own
            failures.append(f"{type(error).__name__}: {error}")
        detail = "; ".join(failures) or "it cannot be loaded"
        raise UnsuitableNode(f"{namespace}: plug-in {name!r} is broken: {detail}") from None
    if not isinstance(manager.driver, base):
        raise UnsuitableNode(f"{namespace}: plug-in {name!r} is no {base.__module__}.{base.__qualname__}")
    return manager.driver
