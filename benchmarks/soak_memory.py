"""What a page and a kernel hold during a soak, split so that a growth can be told apart."""

from __future__ import annotations

import time
from typing import Any

import psutil  # type: ignore[import-untyped]

from tests.support.jupyter import Notebook

_DUMP = {
    "includedCategories": ["disabled-by-default-memory-infra"],
    "excludedCategories": ["*"],
    "memoryDumpConfig": {"triggers": []},
}
_WAIT = 60.0  # s for a dump
_SWEEP = 1500  # ms
_MB = 2**20


class Browser:
    """What the page holds: its JavaScript heap after a collection, its nodes, its process."""

    def __init__(self, notebook: Notebook) -> None:
        self._page = notebook.page
        self._devtools = notebook.context.new_cdp_session(notebook.page)
        self._devtools.send("Performance.enable")

    def holds(self) -> dict[str, Any]:
        """Megabytes and counts, now."""
        self._devtools.send("HeapProfiler.collectGarbage")
        at_once = _renderers_mb()
        # Chromium sweeps in the background, and keeps emptied pages until it is told to save.
        for _ in range(2):
            self._page.wait_for_timeout(_SWEEP)
            self._devtools.send("HeapProfiler.collectGarbage")
            self._devtools.send("Memory.simulatePressureNotification", {"level": "critical"})
        self._page.wait_for_timeout(_SWEEP)
        found = self._devtools.send("Performance.getMetrics")["metrics"]
        metrics = {one["name"]: one["value"] for one in found}
        return {
            "browser_heap_mb": round(metrics["JSHeapUsedSize"] / _MB, 1),
            "browser_at_once_mb": at_once,
            "browser_mb": _renderers_mb(),
            "browser_nodes": metrics["Nodes"],
            "browser_listeners": metrics["JSEventListeners"],
            "browser_allocators_mb": self.allocators(),
        }

    def allocators(self) -> dict[str, float]:
        """Megabytes by Chromium's own names of who allocated them, in the page's process."""
        tracing = self._page.context.browser.new_browser_cdp_session()
        events: list[dict[str, Any]] = []
        ended: list[Any] = []
        tracing.on("Tracing.dataCollected", lambda given: events.extend(given["value"]))
        tracing.on("Tracing.tracingComplete", lambda given: ended.append(given))
        tracing.send("Tracing.start", {"traceConfig": _DUMP})
        how = {"deterministic": False, "levelOfDetail": "detailed"}
        tracing.send("Tracing.requestMemoryDump", how)
        tracing.send("Tracing.end")
        end = time.monotonic() + _WAIT
        while not ended and time.monotonic() < end:
            self._page.wait_for_timeout(50)
        tracing.detach()
        return by_allocator(events, max(_renderers(), key=_own_mb).pid)


def by_allocator(events: list[dict[str, Any]], process: int) -> dict[str, float]:
    """Megabytes of each allocator in a process, from a trace of Chromium's memory-infra.

    Examples
    --------
    >>> size = {"size": {"type": "scalar", "units": "bytes", "value": "300000"}}
    >>> allocators = {"malloc": {"attrs": size}, "malloc/partitions": {"attrs": size}}
    >>> by_allocator([{"ph": "v", "pid": 7, "args": {"dumps": {"allocators": allocators}}}], 7)
    {'malloc': 3.0}
    """
    found: dict[str, float] = {}
    for event in events:
        if event.get("ph") != "v" or event["pid"] != process:
            continue
        for name, dump in event["args"]["dumps"].get("allocators", {}).items():
            size = dump.get("attrs", {}).get("size")
            if "/" not in name and size and size["units"] == "bytes":
                found[name] = round(int(size["value"], 16) / _MB, 1)
    return found


def _renderers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "--type=renderer" in " ".join(child.cmdline())]


def _renderers_mb() -> float:
    return round(sum(map(_own_mb, _renderers())), 1)


def _own_mb(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss) / _MB
