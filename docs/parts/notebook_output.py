"""The directive ``from-notebook``: a figure or table that a cell of an executed notebook showed.

So that every figure in the pages is the notebooks' own, made anew by each build::

    ```{from-notebook} 06_information
    :cell: information-14
    :alt: Entropy of the units of each layer
    ```
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class FromNotebook(SphinxDirective):
    """Show what one cell, named by its id, had as its output."""

    required_arguments = 1
    has_content = True  # the caption
    option_spec: ClassVar[dict[str, Any]] = {
        "cell": directives.unchanged_required,
        "alt": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """The outputs as nodes, and below them the caption."""
        name, wanted = self.arguments[0], self.options["cell"]
        notebook = Path(self.env.srcdir) / "notebooks" / f"{name}.ipynb"
        self.env.note_dependency(str(notebook))
        cells = {cell["id"]: cell for cell in json.loads(notebook.read_text())["cells"]}
        if wanted not in cells:
            raise self.error(f"{notebook.name} has no cell {wanted!r}")
        shown = [self._node(output) for output in cells[wanted].get("outputs", [])]
        parts = [node for node in shown if node is not None]
        if not parts:
            raise self.error(f"cell {wanted!r} of {notebook.name} shows nothing: was it executed?")
        box = nodes.container(classes=["from-notebook"])
        box += parts
        if self.content:
            caption = nodes.container(classes=["caption-text"])
            self.state.nested_parse(self.content, self.content_offset, caption)
            box += caption
        return [box]

    def _node(self, output: dict[str, Any]) -> nodes.Node | None:
        data = output.get("data", {"text/plain": output.get("text", "")})
        if "image/png" in data:
            return nodes.image(uri=self._picture(data["image/png"]), alt=self.options["alt"])
        if "text/html" in data:
            return nodes.raw("", "".join(data["text/html"]), format="html")
        text = "".join(data.get("text/plain", ""))
        return nodes.literal_block(text, text, language="none") if text.strip() else None

    def _picture(self, encoded: str) -> str:
        content = base64.b64decode(encoded)
        name = f"_figures/{hashlib.sha256(content).hexdigest()[:16]}.png"
        path = Path(self.env.srcdir) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return f"/{name}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("from-notebook", FromNotebook)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
