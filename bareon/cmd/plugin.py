# SPDX-License-Identifier: Apache-2.0
"""Loading plug-ins by name. One that cannot be imported is named with its own error."""

from __future__ import annotations

from typing import Any, TypeVar

from bareon.errors import UnsuitableNode, UsageError

T = TypeVar("T")


def load(namespace: str, name: str, base: type[T]) -> T:
    """An instance of the plug-in ``name``, which must derive from ``base``.

    :raises UsageError: when there is no such plug-in; the message lists those there are.
    :raises UnsuitableNode: when it fails to import or is of another kind.
    """
    import importlib.metadata

    # importlib.metadata answers in a tenth of the time stevedore's cache takes to be built for one name.
    points = importlib.metadata.entry_points(group=namespace)
    found = [point for point in points if point.name == name]
    if not found:
        known = ", ".join(sorted({point.name for point in points})) or "none"
        raise UsageError(f"{namespace} has no plug-in {name!r}; there are: {known}")
    if len({point.value for point in found}) > 1:
        clash = ", ".join(sorted(point.value for point in found))
        raise UnsuitableNode(f"{namespace}: the name {name!r} is claimed by {clash}; uninstall all but one")
    return _instance(namespace, name, base)


def _instance(namespace: str, name: str, base: type[T]) -> T:
    from stevedore.driver import DriverManager
    from stevedore.exception import NoMatches

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
    except NoMatches:
        detail = "; ".join(failures) or "it cannot be loaded"
        raise UnsuitableNode(f"{namespace}: plug-in {name!r} is broken: {detail}") from None
    if not isinstance(manager.driver, base):
        raise UnsuitableNode(f"{namespace}: plug-in {name!r} is no {base.__module__}.{base.__qualname__}")
    return manager.driver
