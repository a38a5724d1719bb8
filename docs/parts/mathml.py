"""Formulas as MathML, which browsers draw themselves: no script, and nothing from the network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx


def _drawn(formula: str, *, as_block: bool = False) -> str:
    """The formula as MathML, where brackets grow by themselves: no need for ``big``."""
    return str(tex2mathml(re.sub(r"\\[bB]igg?[lrm]?(?![a-zA-Z])", "", formula), as_block=as_block))


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(_drawn(node.astext()))
    raise nodes.SkipNode


def _block(writer: Any, node: nodes.math_block) -> None:
    formula = _drawn(node.astext(), as_block=True)
    writer.body.append(f'<div class="formula">{formula}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer that ``html_math_renderer = "mathml"`` asks for."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
