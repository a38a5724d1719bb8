"""What a soak runs on: small studies, real widgets on channels of ours, models as they were."""

from __future__ import annotations

import ctypes
import gc
import io
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import memviz as mv
from memviz.data.scenes import caption, draw_scenes
from memviz.models.clip import create_clip
from memviz.models.convnet import ConvNet
from memviz.probes.deja_vu.ablation import Retrieval
from memviz.widgets.core import BaseView

EPOCHS = (3, 7)
WAIT = 120.0  # s for the last answer to a burst
# What Python and torch say where nobody checked the argument.
_RAW = re.compile(
    r"object (has no|is not|does not)|NoneType|unsupported operand|invalid literal|cannot convert|"
    r"unhashable|list index out|not subscriptable|must be real|positional argument|Traceback|"
    r"Expected .* but|dict changed size|_Patched|overflow|size of tensor|different paths"
)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# Of the whole process, not of a thread.
_SWITCHES = (
    torch.backends.mha.get_fastpath_enabled,
    torch.backends.cuda.flash_sdp_enabled,
    torch.backends.cuda.mem_efficient_sdp_enabled,
    torch.backends.cuda.math_sdp_enabled,
    torch.is_grad_enabled,
)


def strokes(*, checkpoints: bool = True) -> mv.Study:
    """60 drawings, 4 classes, 20 units to ablate, three groups and two checkpoints."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(60, 1, 8, 8, generator=generator)
    inputs[inputs < 0.6] = 0.0
    model = ConvNet((3, 3, 4, 4), hidden=6, classes=4, seed=1).eval()
    with torch.no_grad():
        for name in ("fc", "head"):
            model.get_submodule(name).weight.mul_(6)  # type: ignore[operator, union-attr]
        model.get_submodule("head").bias -= model(inputs).mean(0)  # type: ignore[operator]
        labels = model(inputs).argmax(1)
    last = {name: value.clone() for name, value in model.state_dict().items()}
    early = {
        name: value + 0.5 * torch.randn(value.shape, generator=generator)
        if value.is_floating_point() and "running" not in name
        else value.clone()
        for name, value in last.items()
    }
    groups = {"memorized": range(12), "clean": range(12, 44), "test": range(44, 56)}
    kept = dict(zip(EPOCHS, (early, last), strict=True)) if checkpoints else {}
    return mv.Study(model, inputs, labels, groups, checkpoints=kept, name="strokes")


def scenes() -> Retrieval:
    """Two untrained CLIP models of one block, 12 pairs and 20 public pictures."""
    vision = {"image_size": 24, "layers": 1, "width": 8, "head_width": 4, "patch_size": 12}
    text = {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    clips = [create_clip(config, {"size": 24}, seed=seed) for seed in (0, 1)]
    sets = draw_scenes(0, target=12, reference=12, public=20, held_out=8)
    return Retrieval(
        *clips, sets.target, sets.public, sets.held_out, query=lambda name: caption([name], [])
    )


class Channel:
    """The browser's end of a view: keeps the newest message of each kind, and what is wrong."""

    def __init__(self) -> None:
        self.newest: dict[str, dict[str, Any]] = {}
        self.errors: list[str] = []
        self.wrong: list[str] = []
        self.fails = False

    def send(self, content: dict[str, Any], buffers: Any = None) -> None:
        """Take a message, as a comm would: only what strict JSON can carry."""
        if self.fails:
            raise ConnectionError("the channel is closed")
        try:
            json.dumps(content, allow_nan=False).encode()
        except (TypeError, ValueError, UnicodeError) as error:
            self.wrong.append(f"a message of type {content['type']} is no JSON: {error}")
        if content["type"] == "error":
            self.errors.append(content["text"])
            if raw := is_raw(content["text"]):
                self.wrong.append(f"{raw}: {content['text'][:200]}")
        self.newest[content["type"]] = content


def is_raw(text: str) -> str:
    """What is wrong with an error that a widget shows; empty if it is a sentence."""
    if "\n" in text or len(text) > 450:
        return "an error of more than a line"
    if _RAW.search(text):
        return "a raw error"
    return "" if text.endswith(".") and len(text.split()) > 4 else "an error that is no sentence"


class Shown:
    """A widget and its channel; messages come in as from a comm."""

    def __init__(self, view: BaseView) -> None:
        self.view, self.channel = view, Channel()
        view.send = self.channel.send
        self.hear({"type": "hello"})

    def hear(self, content: Any) -> None:
        """One message of the page."""
        self.view._handle_custom_msg(content, [])

    def answered(self) -> str:
        """What the page still waits for once all work is done; empty if nothing."""
        session, newest = self.view.session, self.channel.newest
        figures = "gaps" if self.view.part == "deja_vu" else "readout"
        for kind in ("state", figures):
            if newest.get(kind, {}).get("version") != session.version:
                return f"{self.view.part} has no {kind} of version {session.version}"
        if figures == "readout" and session.opened is not None:
            example = newest.get("example", {})
            if example.get("index") != session.opened:
                return f"{self.view.part} has no example {session.opened}"
        return ""


def settled(view: BaseView) -> bool:
    """Wait until all that was asked of a view's controller is done."""
    done, worker = threading.Event(), view.controller.worker
    until = time.monotonic() + WAIT
    worker.work("settled", (done.set() for _ in range(1)), rank=99)
    while not done.wait(0.05):
        if worker.closed or time.monotonic() > until:
            return worker.closed
    return True


class Model:
    """A model as it was: weights, flags, hooks, attributes and outputs, to compare with."""

    def __init__(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._model, self._inputs = model, inputs
        self._was = self._facts()
        self._state = {name: value.clone() for name, value in self._tensors().items()}
        self._outputs = self.outputs()

    def outputs(self) -> Tensor:
        """What a plain call returns."""
        with torch.no_grad():
            found = self._model(*self._inputs)
        return found if isinstance(found, Tensor) else torch.cat(list(found[:2]))

    def changes(self) -> list[str]:
        """What is no longer as it was."""
        state, now = self._tensors(), self._facts()
        changed = [k for k, value in self._state.items() if not torch.equal(value, state[k])]
        changed += [key for key in {*now, *self._was} if now.get(key) != self._was.get(key)]
        named = f"outputs of {type(self._model).__name__}"
        return changed + [named] * (not torch.equal(self._outputs, self.outputs()))

    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for name, module in self._model.named_modules():
            hooks = [len(getattr(module, kind)) for kind in _HOOKS]
            facts[f"{name}()"] = (module.training, type(module), hooks, sorted(vars(module)))
        facts["switches"] = [switch() for switch in _SWITCHES]
        for name, weight in self._model.named_parameters():
            facts[f"{name}?"] = (weight.requires_grad, weight.grad is None, weight.data_ptr())
        return facts


def resident_mb() -> float:
    """Resident memory of this process now, without what the allocator keeps for itself."""
    gc.collect()
    with suppress(OSError, AttributeError):  # not on every system
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    status = Path("/proc/self/status")
    if not status.is_file():
        return 0.0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)


def kernel_holds() -> dict[str, float]:
    """Megabytes of this process in all and of files mapped in it, its modules and objects."""
    total = resident_mb()
    found = {"kernel_mb": total, "kernel_modules": len(sys.modules)}
    found["kernel_objects"] = len(gc.get_objects())
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("RssFile"))
        found["kernel_files_mb"] = round(int(line.split()[1]) / 1024, 1)
    return found


@contextmanager
def traces_caught() -> Iterator[list[str]]:
    """Everything that would stand as a traceback in the kernel's log."""
    caught: list[str] = []

    class Log(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info or "Traceback" in record.getMessage():
                caught.append(f"{record.getMessage()} {record.exc_info}"[:400])

    class Stderr(io.TextIOBase):
        def write(self, text: str) -> int:
            if "Traceback" in text:
                caught.append(text[:400])
            return real[0].write(text)

        def flush(self) -> None:
            real[0].flush()

    log, real = Log(), (sys.stderr, threading.excepthook, sys.unraisablehook)
    logging.getLogger().addHandler(log)
    sys.stderr = Stderr()
    threading.excepthook = lambda given: caught.append(f"in {given.thread}: {given.exc_value!r}")
    sys.unraisablehook = lambda given: caught.append(f"unraisable: {given.exc_value!r}")
    try:
        yield caught
    finally:
        logging.getLogger().removeHandler(log)
        sys.stderr, threading.excepthook, sys.unraisablehook = real
