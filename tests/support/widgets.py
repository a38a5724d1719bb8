"""Small studies, and an ear that stands for a browser."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.models.convnet import ConvNet
from memviz.widgets.core import Message, Part
from memviz.widgets.workbench import Controller

DTYPES = {"uint8", "uint16", "uint32", "int8", "int16", "float32", "float64"}
GROUPS = {"memorized": range(12), "clean": range(12, 44), "test": range(44, 56)}


def small_study(**changes: Any) -> mv.Study:
    """60 strokes, 4 classes, 20 units to ablate; 4 examples belong to no group."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(60, 1, 8, 8, generator=generator)
    inputs[inputs < 0.6] = 0.0
    model = ConvNet((3, 3, 4, 4), hidden=6, classes=4, seed=1).eval()
    with torch.no_grad():
        for layer in (model.get_submodule("fc"), model.get_submodule("head")):
            assert isinstance(layer, nn.Linear)
            layer.weight.mul_(6)
        found = model(inputs)
        model.get_submodule("head").bias -= found.mean(0)  # so that every class is said
        labels = model(inputs).argmax(1)
    truth = labels.clone()
    truth[:12] = (labels[:12] + 1) % 4  # the memorized are labelled wrong
    labels[40:44] = (labels[40:44] + 1) % 4  # and some clean ones are got wrong
    given: dict[str, Any] = {"groups": GROUPS, "true_labels": truth, "name": "strokes"}
    given |= {"origin": "small_study()", "class_names": ["ant", "bee", "cat", "dog"]} | changes
    return mv.Study(model, inputs, labels, **given)


def flat_study(examples: int = 30, units: int = 8, **changes: Any) -> mv.Study:
    """Rows of a table: 5 columns, 3 classes, one hidden layer, the single group "test"."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, units), nn.ReLU(), nn.Linear(units, 3)).eval()
    inputs = torch.randn(examples, 5, generator=generator)
    given: dict[str, Any] = {"groups": {"test": range(examples)}} | changes
    return mv.Study(model, inputs, torch.arange(examples) % 3, **given)


class Pair(nn.Module):
    """Called with two tensors by name."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(2, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.head(torch.relu(self.first(left)) * torch.sigmoid(self.second(right)))


def pair_study() -> mv.Study:
    """Inputs that are a dict."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Pair().eval()
    inputs = {"left": torch.randn(20, 4, generator=generator), "right": torch.ones(20, 2)}
    groups = {"memorized": range(5), "clean": range(5, 20)}
    return mv.Study(model, inputs, torch.arange(20) % 3, groups)


class Ear:
    """Hears what a view is told, and can be waited on."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self._news = threading.Condition()

    def tell(self, message: Message) -> None:
        with self._news:
            self.heard.append(message)
            self._news.notify_all()

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Contents of the messages of a kind, oldest first."""
        return [content for content, _ in self.heard if content["type"] == kind]

    def last(self, kind: str, **wanted: Any) -> Message:
        """The newest message of a kind, with these values."""
        return next(
            message
            for message in reversed(self.heard)
            if message.content["type"] == kind
            and all(message.content[key] == value for key, value in wanted.items())
        )

    def wait(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """Until such a message is heard."""

        def found() -> dict[str, Any] | None:
            return next((c for c in self.of(kind) if wanted.items() <= c.items()), None)

        with self._news:
            content = self._news.wait_for(found, timeout=60)
        assert content is not None, f"no {kind} with {wanted} was heard"
        return content

    def forget(self) -> None:
        self.heard.clear()


def listening(study: mv.Study, *parts: type[Part], **options: Any) -> tuple[Controller, Ear]:
    """A controller with these parts that computes on demand, and a view that has said hello."""
    controller = Controller(mv.Session(study), **{"threaded": False, **options})
    for part in parts:
        controller.part(part)
    ear = Ear()
    controller.sinks.append(ear)
    ask(controller, ear, "hello")
    return controller, ear


def ask(controller: Controller, ear: Ear, kind: str, **fields: Any) -> None:
    """One message of a view, and all the computing that it asks for."""
    controller.receive({"type": kind, **fields}, ear)
    if not controller.worker.threaded:
        controller.worker.run_until_idle()


def decoded(message: Message) -> dict[str, np.ndarray]:
    """The arrays, read from the wire by what the message itself says of them."""
    specs = message.content.get("arrays", [])
    assert len(specs) == len(message.buffers)
    found = {}
    for spec, buffer in zip(specs, message.buffers, strict=True):
        assert spec["dtype"] in DTYPES, spec
        array = np.frombuffer(buffer, np.dtype(spec["dtype"]).newbyteorder("<"))
        found[spec["name"]] = array.reshape(spec["shape"])
    return found


def size(message: Message) -> int:
    """Bytes on the wire, near enough."""
    return len(repr(message.content)) + sum(len(buffer) for buffer in message.buffers)


EVIL = '<img src=x onerror="pwned=1">\'"&$_{$</script><script>pwned=1</script>'
EVIL_GROUP = "<img src=x onerror=pwned=1>$_{"
EVIL_LAYER = "<img/src=x/onerror=pwned=1>"  # a set of units is split at spaces


def hostile_study() -> mv.Study:
    """Every text that a user gives tries to run something."""
    study = small_study(
        groups={EVIL_GROUP: range(12), "b" + EVIL_GROUP: range(12, 44), "test": range(44, 56)},
        class_names=[EVIL, "bee", "c" + EVIL, "dog"],
        name=EVIL,
        summary=EVIL,
        origin=f"small_study()  # {EVIL}",
    )
    model = nn.Sequential()
    for name, child in study.model.named_children():
        model.add_module(EVIL_LAYER if name == "conv4" else name, child)
    assert isinstance(study.inputs, Tensor)
    return mv.Study(
        model.eval(),
        study.inputs,
        study.labels,
        study.groups,
        true_labels=study.true_labels,
        class_names=study.class_names,
        name=study.name,
        summary=study.summary,
        origin=study.origin,
    )
