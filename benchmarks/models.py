"""The models that are measured: random weights, sane activations, known sites.

Speed does not depend on what a network has learned, so the weights are drawn at random. The running
statistics of every batch norm are those of one batch of the inputs, so that activations neither
vanish nor explode; and the head is turned away from the mean of its input, since otherwise nearly
every example would get the same class, and equal predictions would mean little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import memviz as mv  # before torchvision, which it lets be imported

import torch  # isort: skip
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torchvision.models import resnet18

from memviz.models.mlp import MLP
from memviz.models.resnet9 import ResNet9

POOL, CLASSES = 512, 10


@dataclass(frozen=True)
class Subject:
    """A model to sweep.

    Attributes
    ----------
    name : str
    model : nn.Module
        In eval mode.
    inputs : Tensor ``[pool, ...]``
    labels : int64 ``[pool]``
    sites : dict of layer name to module name
        For each layer that is swept, the module after which a plain hook ablates the same units.
    axis : int
        Where the units lie in that module's output.
    examples, sample : int
        How many examples, and units per layer, are measured by default.
    """

    name: str
    model: nn.Module
    inputs: Tensor
    labels: Tensor
    sites: dict[str, str]
    axis: int
    examples: int
    sample: int

    def study(self, examples: int) -> mv.Study:
        """A study of the first examples."""
        groups = {"memorized": range(examples // 2), "clean": range(examples // 2, examples)}
        return mv.Study(self.model, self.inputs[:examples], self.labels[:examples], groups)

    def module(self, layer: str) -> nn.Module:
        """The module whose output is the activation that is ablated."""
        return self.model.get_submodule(self.sites[layer])

    def units(self) -> dict[str, int]:
        """How many units each swept layer has."""
        layers = mv.layers(self.study(2))
        return {layer.name: layer.units for layer in layers if layer.name in self.sites}


def subject(name: str) -> Subject:
    """One of the models, by name."""
    return SUBJECTS[name]()


def _resnet9() -> Subject:
    blocks = {"conv1": "relu1", "conv2": "relu2", "conv3": "relu3", "conv4": "relu4"}
    inner = {f"res{i}.conv{k}": f"res{i}.relu{k}" for i in (1, 2) for k in (1, 2)}
    model = ResNet9(CLASSES, seed=0)
    return _subject("resnet9", model, model.head, blocks | inner, 1, examples=64, sample=3)


def _resnet18() -> Subject:
    # Torchvision's network with the usual stem for small images: 3x3, stride 1, no max-pool.
    model = _drawn(lambda: resnet18(num_classes=CLASSES))
    model.conv1 = _drawn(lambda: nn.Conv2d(3, 64, 3, padding=1, bias=False))
    model.maxpool = nn.Identity()
    # A block's one ReLU module is called twice, so the hooks stand after its batch norms: what is
    # zero there is zero after the ReLU, and the second ablation comes before the skip is added.
    sites = {"conv1": "bn1"}
    for stage in range(1, 5):
        for block in range(2):
            for k in (1, 2):
                sites[f"layer{stage}.{block}.conv{k}"] = f"layer{stage}.{block}.bn{k}"
    return _subject("resnet18", model, model.fc, sites, 1, examples=32, sample=2)


def _vit() -> Subject:
    model = _drawn(
        lambda: VisionTransformer(
            img_size=32, patch_size=4, embed_dim=192, depth=6, num_heads=3, num_classes=CLASSES
        )
    )
    sites = {f"blocks.{i}.mlp.fc1": f"blocks.{i}.mlp.act" for i in range(6)}
    return _subject("vit", model, model.head, sites, -1, examples=64, sample=3)


def _mlp() -> Subject:
    sites = {f"fc{i}": f"relu{i}" for i in (1, 2, 3)}
    model = MLP((3072, 512, 512, 512, CLASSES), seed=0)
    return _subject("mlp", model, model.head, sites, -1, examples=512, sample=64)


def digits() -> Subject:
    """The trained network of the first notebook, on its 1,797 handwritten digits."""
    study = mv.demo("digits")
    sites = {**{f"conv{i}": f"relu{i}" for i in range(1, 5)}, "fc": "relu5"}
    inputs = study.batch(torch.arange(len(study)))
    assert isinstance(inputs, Tensor)
    return Subject("digits", study.model, inputs, study.labels, sites, 1, len(study), sample=8)


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "resnet9": _resnet9,
    "resnet18": _resnet18,
    "vit": _vit,
    "mlp": _mlp,
}


def _subject(
    name: str,
    model: nn.Module,
    head: nn.Linear,
    sites: dict[str, str],
    axis: int,
    *,
    examples: int,
    sample: int,
) -> Subject:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(POOL, 3, 32, 32, generator=generator)
    labels = torch.randint(CLASSES, (POOL,), generator=generator)
    _set_statistics(model, inputs[:64])
    _turn(model.eval(), head, inputs[:64])
    return Subject(name, model, inputs, labels, sites, axis, examples, sample)


def _drawn(make: Callable[[], nn.Module]) -> nn.Module:
    """A module with weights from a fixed seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return make()


def _set_statistics(model: nn.Module, batch: Tensor) -> None:
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    model.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the batch's own statistics, nothing of what stood there
    with torch.no_grad():
        model(batch)
    for norm in norms:
        norm.momentum = 0.1


def _turn(model: nn.Module, head: nn.Linear, batch: Tensor) -> None:
    given: list[Tensor] = []
    handle = head.register_forward_hook(lambda _m, inputs, _o: given.append(inputs[0]))
    with torch.no_grad():
        model(batch)
        handle.remove()
        mean = given[0].mean(0)
        head.weight -= torch.outer(head.weight @ mean, mean) / mean.square().sum()
        if head.bias is not None:
            head.bias.zero_()
