"""Random clicks, keys, sliders and searches on real widgets in JupyterLab, in a real Chromium."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.click import in_lab
from benchmarks.soak_memory import Browser
from benchmarks.soak_world import is_raw
from tests.support.jupyter import Notebook

KERNEL_BOUND_MB, BROWSER_BOUND_MB = 60.0, 60.0  # growth after the warm-up that still counts as flat
LOOK = 200  # interactions between two looks at figures and memory
_MOST = 20  # texts of faults that are kept
SETUP = """\
import memviz as mv
from IPython.display import display
from benchmarks.soak_world import Model, kernel_holds, settled, strokes, traces_caught
from memviz.tensor_files import digest
study, twin = strokes(), strokes()
model = Model(study.model, (study.inputs,))
checksum = digest(study.model.state_dict())
traces = traces_caught().__enter__()
session = mv.Session(study)
views = [kind(session) for kind in (mv.workbench, mv.timeline, mv.inspector, mv.score_scatter)]
def fresh():
    if session.variant:
        return None
    return mv.readout(twin, session.units, session.how, random_draws=0).sentence
display(*views)"""
SHOWN = "() => document.querySelectorAll('.mv').length >= 4"
# Keeps every error that a widget shows, however soon it is gone again.
WATCH = """() => {
  window.told = [];
  new MutationObserver(() => {
    for (const node of document.querySelectorAll(".mv-error")) {
      const text = node.textContent;
      if (text && node.told !== text) window.told.push(text.replace(/^! /, ""));
      node.told = text;
    }
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
}"""
# JupyterLab changes the tab's icon whenever the kernel turns busy or idle, and DevTools, by which
# Playwright moves the mouse, keep 43 kB of base64 of each that is loaded again.
STILL_ICON = "() => document.querySelectorAll('link.favicon').forEach((icon) => icon.remove())"
KINDS = {
    "map": "canvas.mv-units",
    "button": "button:not([disabled])",
    "select": "select:not([disabled])",
    "slider": "[role=slider], input[type=range]",
    "number": "input[type=number]:not([disabled])",
    "search": "input[type=search]",
    "option": "[role=option]",
    "chart": "svg.mv-time, canvas:not(.mv-units):not([aria-hidden])",
}
_CHANCES = {"map": 0.3, "button": 0.16, "select": 0.06, "slider": 0.1, "number": 0.06,
            "search": 0.06, "option": 0.14, "chart": 0.05, "history": 0.07}  # fmt: skip
# One element of a kind, scrolled into sight: where it lies, and what may be chosen there.
FIND = """([css, share]) => {
  const seen = (node) => node.checkVisibility() && !node.closest("[inert]");
  const nodes = [...document.querySelectorAll(".mv :is(" + css + ")")].filter(seen);
  if (!nodes.length) return null;
  const node = nodes[Math.floor(share * nodes.length)];
  node.scrollIntoView({ block: "center", behavior: "instant" });
  const box = node.getBoundingClientRect();
  document.querySelectorAll("[data-soak]").forEach((one) => one.removeAttribute("data-soak"));
  node.setAttribute("data-soak", "");
  const options = [...(node.options || [])].filter((one) => !one.disabled).map((one) => one.value);
  return { x: box.x, y: box.y, width: box.width, height: box.height, options };
}"""
_MAP_KEYS = ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "Home", "End", "Space", "Enter")
_SLIDES = ("ArrowRight", "ArrowLeft", "PageUp", "PageDown", "Home", "End")
_HISTORY = ("Control+z", "Control+z", "Control+Shift+z", "Control+y", "Escape")
_SOUGHT = ("conv1:0-2", "conv2", "fc", "head:9999", "memorized", "3", "<b>x</b>", "é", "", "c:1:2")
_NUMBERS = ("0", "1", "3", "7", "20", "-4", "99999", "1e9", "")


@dataclass
class Hand:
    """A hand on mouse and keyboard, moved by chance."""

    notebook: Notebook
    draw: np.random.Generator
    counts: dict[str, int] = field(default_factory=dict)

    def move(self) -> None:
        """One interaction."""
        kind = str(self.draw.choice(list(_CHANCES), p=list(_CHANCES.values())))
        page = self.notebook.page
        if kind == "history":
            page.keyboard.press(self._pick(_HISTORY))
        else:
            place = page.evaluate(FIND, [KINDS[kind], float(self.draw.random())])
            if place is None:
                return self.move()
            getattr(self, f"_{kind}")(place)
        self.counts[kind] = self.counts.get(kind, 0) + 1

    def _pick(self, choices: tuple[str, ...] | list[str]) -> str:
        return choices[int(self.draw.integers(len(choices)))]

    def _point(self, place: dict[str, Any]) -> tuple[float, float]:
        across, down = self.draw.random(2)
        x, y = place["x"] + place["width"] * across, place["y"] + place["height"] * down
        return float(x), float(y)

    def _click(self, place: dict[str, Any]) -> None:
        self.notebook.page.mouse.click(*self._point(place))

    def _map(self, place: dict[str, Any]) -> None:
        if self.draw.random() < 0.7:
            self._click(place)
        else:
            self.notebook.page.locator("[data-soak]").press(self._pick(_MAP_KEYS))

    _button = _option = _chart = _click

    def _select(self, place: dict[str, Any]) -> None:
        if place["options"]:
            value = self._pick(place["options"])
            self.notebook.page.locator("[data-soak]").select_option(value)

    def _slider(self, place: dict[str, Any]) -> None:
        mouse = self.notebook.page.mouse
        if self.draw.random() < 0.5:
            mouse.move(*self._point(place))
            mouse.down()
            mouse.move(*self._point(place))
            mouse.up()
        else:
            self.notebook.page.locator("[data-soak]").press(self._pick(_SLIDES))

    def _number(self, _: dict[str, Any]) -> None:
        self._write(self._pick(_NUMBERS))

    def _search(self, _: dict[str, Any]) -> None:
        self._write(self._pick(_SOUGHT))

    def _write(self, text: str) -> None:
        keyboard = self.notebook.page.keyboard
        self.notebook.page.locator("[data-soak]").focus()
        keyboard.press("Control+a")
        keyboard.press("Backspace")
        keyboard.type(text)
        keyboard.press("Enter")


def in_browser(interactions: int, seed: int, minutes: float) -> dict[str, Any]:
    """Move mouse and keys at random over four widgets on one session.

    Parameters
    ----------
    interactions : int
    seed : int
    minutes : float
        After these it stops, with fewer.

    Returns
    -------
    dict
        ``interactions``, and how many of each kind; ``page_errors``, exceptions in the page;
        ``raw_errors`` that a widget showed; ``wrong_sentences``, other than a fresh computation's;
        ``kernel_traces``; ``..._first`` and ``..._last``, memory after the first tenth and at the
        end; ``memory``, all readings on the way, one a tenth, with the page's by allocator;
        ``flat``, whether it grew by no more than the bounds, None if it was read only once;
        ``same_model``.
    """
    # One cell: JupyterLab keeps the toolbar of each cell that was active, and so grows by itself.
    with in_lab("soak", [SETUP]) as notebook:
        notebook.page.set_viewport_size({"width": 1400, "height": 1500})
        notebook.page.set_default_timeout(20_000)
        notebook.run_all()
        notebook.page.wait_for_selector("canvas.mv-units", timeout=300_000)
        notebook.page.wait_for_function(SHOWN, timeout=300_000)
        notebook.page.evaluate(WATCH)
        notebook.page.evaluate(STILL_ICON)
        browser, hand = Browser(notebook), Hand(notebook, np.random.default_rng([seed, 3]))
        begun, wrong, failed = time.monotonic(), list[str](), list[str]()
        memory: list[dict[str, Any]] = []
        made = looks = 0
        while made < interactions and time.monotonic() - begun < 60 * minutes:
            try:
                hand.move()
            except Exception as error:  # a widget that no longer answers is a fault of its own
                failed.append(f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")
            made += 1
            if made % min(LOOK, max(1, interactions // 4)) == 0:
                looks += 1
                wrong += _wrong(notebook)
                way = (time.monotonic() - begun) / (60 * minutes)
                if 10 * max(made / interactions, way) >= len(memory) + 1 and made < interactions:
                    memory.append(_memory(notebook, browser, made))
        wrong += _wrong(notebook)
        first, last = memory[0] if memory else {}, _memory(notebook, browser, made)
        told = notebook.page.evaluate("() => window.told")
        raw = [f"{why}: {text[:200]}" for text in told if (why := is_raw(text))]
        bounds = {"kernel_mb": KERNEL_BOUND_MB, "browser_mb": BROWSER_BOUND_MB}
        flat = all(last[name] - first[name] <= bounds[name] for name in bounds) if first else None
        return {
            "interactions": made,
            "interactions_of_each_kind": hand.counts,
            "interactions_failed": len(failed),
            "page_errors": len(notebook.errors),
            "raw_errors": len(raw),
            "sentences_compared": looks + 1,
            "wrong_sentences": len(wrong),
            "kernel_traces": notebook.python("len(traces)"),
            "memory": [*memory, last],
            **{f"{name}_first": value for name, value in first.items()},
            **{f"{name}_last": value for name, value in last.items()},
            "bounds": bounds,
            "flat": flat,
            "same_model": notebook.python(
                "not model.changes() and digest(study.model.state_dict()) == checksum"
            ),
            "checksum": notebook.python("checksum"),
            "told": sorted(set(told))[:_MOST],
            "texts": [*notebook.errors, *raw, *wrong, *failed][:_MOST],
            "trace_texts": notebook.python(f"traces[:{_MOST}]"),
            "browser_minutes": round((time.monotonic() - begun) / 60, 1),
        }


def _memory(notebook: Notebook, browser: Browser, made: int) -> dict[str, Any]:
    """Megabytes and counts of kernel and page after so many interactions."""
    return {"after": made, **browser.holds(), **notebook.python("kernel_holds()")}


def _wrong(notebook: Notebook) -> list[str]:
    """What the workbench says once all is done, if a fresh computation says something else."""
    notebook.python("[settled(view) for view in views]")
    right = notebook.python("fresh()")
    if right is None:
        return []
    end, said = time.monotonic() + 20, ""
    while time.monotonic() < end:
        said = notebook.page.locator(".mv-part-workbench .mv-say").first.text_content() or ""
        if said == right:
            return []
        notebook.page.wait_for_timeout(100)
    return [f"said {said!r}, but {right!r} is right"]
