"""What axe-core finds on a page, in light and in dark."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe

from .page import settle

RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}

# The harness has JupyterLab's themes; an exported page follows the browser's.
THEME = """(light) => {
  if (document.body.dataset.jpThemeLight) document.body.dataset.jpThemeLight = light;
}"""


def serious(page: Any) -> list[str]:
    """A line for each serious finding: rule, element, why; the page must stand as it is shown."""
    lines = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.evaluate(THEME, str(scheme == "light").lower())
        for _ in range(2):  # the theme is noticed, then drawn
            settle(page)
        for finding in Axe().run(page, options=RULES).response["violations"]:
            if finding["impact"] not in ("serious", "critical"):
                continue
            for node in finding["nodes"]:
                why = [check["message"] for check in node["any"] + node["all"] + node["none"]]
                lines.append(f"{scheme}: {finding['id']}: {node['html'][:200]}: {why[:1]}")
    return lines
