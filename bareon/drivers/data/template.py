# SPDX-License-Identifier: Apache-2.0
"""Templates in a sandbox of jinja2: they see the values they are given, and come to an end.

jinja2's own sandbox keeps a template from whatever leads to Python itself, and limits one ``range``. Beyond that all
rounds of loops and calls of one rendering are counted together, and so is what it writes. Its memory is not limited:
templates are the operator's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from jinja2 import FunctionLoader, StrictUndefined, TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST = 1 << 20
"""Characters of a template, of what one makes, and of a text in it that is repeated."""
ROUNDS = 100_000
"""Rounds of all loops, and calls, together. A document has 4096 items in its lists."""
_BITS = 4096  # of a power


class Excess(TemplateError):
    """A template went beyond a limit; the text says which, and quotes no value."""


class _Counting(CodeGenerator):
    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:  # noqa: N802
        for loop in node.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "counted", [], [], None, None, lineno=loop.lineno)
        super().visit_Template(node, frame)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment of templates whose texts ``text`` gives by their names, ``None`` for one that is not there."""

    code_generator_class = _Counting
    intercepted_binops = frozenset(("*", "**"))

    def __init__(self, text: Callable[[str], str | None], filters: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__(
            loader=FunctionLoader(text),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        del self.globals["lipsum"]
        self.filters |= {**filters, "counted": self._counted}
        self._rounds = 0

    def rendered(self, name: str, words: Mapping[str, Any]) -> str:
        """What a template makes of ``words``.

        :raises TemplateError: and whatever else an expression may raise.
        """
        self._rounds = 0
        text = ""
        for piece in self.get_template(name).generate(words):
            text += piece
            if len(text) > LONGEST:
                raise Excess(f"it makes more than {LONGEST} characters")
        return text

    def _counted(self, value: Iterable[Any]) -> Iterator[Any]:
        for item in value:
            self._count()
            yield item

    def _count(self) -> None:
        self._rounds += 1
        if self._rounds > ROUNDS:
            raise Excess(f"it takes more than {ROUNDS} rounds of loops and calls")

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805  as jinja2 has it
        """Call an object from sandboxed code."""
        __self._count()
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The product or power of two values, unless it would be very large."""
        if operator == "*":
            for text, times in ((left, right), (right, left)):
                if hasattr(text, "__len__") and isinstance(times, int) and len(text) * times > LONGEST:
                    raise Excess(f"it makes a text of more than {LONGEST} characters")
        elif isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > _BITS:
            raise Excess("it makes a number that is too large")
        return super().call_binop(context, operator, left, right)
