# SPDX-License-Identifier: Apache-2.0
"""Which functions of ``bareon/tools`` run a program: by what their code names, not by running them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import CodeType, ModuleType
from typing import Any

from bareon import tools
from bareon.run import run


def modules() -> list[ModuleType]:
    """The modules of ``bareon/tools``."""
    found = pkgutil.walk_packages(tools.__path__, f"{tools.__name__}.")
    return [importlib.import_module(module.name) for module in found]


def running(module: ModuleType) -> list[str]:
    """The public functions and methods of a module that run a program, by themselves or by what they call."""
    own = {name: value for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    methods = {
        f"{name}.{method}": function
        for name, value in own.items()
        if inspect.isclass(value)
        for method, function in vars(value).items()
    }
    return sorted(
        name
        for name, value in {**own, **methods}.items()
        if not name.startswith("_") and "._" not in name and _runs(value, set())
    )


def _runs(value: Any, seen: set[Any]) -> bool:
    function = inspect.unwrap(value) if callable(value) else value
    if function is run:
        return True
    if not inspect.isfunction(function) or function in seen:
        return False
    seen.add(function)
    names = set(_names(function.__code__))
    if run.__module__ in names:  # imported inside the function
        return True
    called = [function.__globals__[name] for name in names if name in function.__globals__]
    for module in [value for value in called if inspect.ismodule(value) and value.__name__.startswith("bareon.")]:
        called += [getattr(module, name) for name in names if hasattr(module, name)]
    return any(_runs(value, seen) for value in called)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
