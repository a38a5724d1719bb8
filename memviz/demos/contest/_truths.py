"""Networks whose memorizing units are known, because they were planted; all made of digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from memviz.demos import digits, example_tied
from memviz.engine.record import layers
from memviz.models.memorizers import Activation, construct_memorizer
from memviz.probes.contest import Truth
from memviz.probes.encoders.experiments import inject
from memviz.progress import slow
from memviz.study import Study
from memviz.training.example_tied_dropout import CHILD, ExampleTiedDropout
from memviz.units import Unit, UnitSet

INJECTED = 8  # planted units, and images where each unit has one
TRAINED_IMAGES, TRAINING_STEPS, LEARNING_RATE = 20, 200, 3e-3
CONSTRUCTED, OWNERS = 24, 4  # units per layer of the hard-tanh network; planted ones
NAMED = 16  # units to name in the digits network, where nothing is planted


def injected(seed: int = 0) -> Truth:
    """Eight units of ``fc``, each activated by one image alone and wired to a wrong class.

    Examples
    --------
    >>> injected(seed=0).named  # doctest: +SKIP
    8
    """
    study, images, wrong = _with_wrong_labels(seed, INJECTED)
    draw = torch.Generator().manual_seed(seed)
    units = torch.randperm(digits.HIDDEN, generator=draw)[:INJECTED].tolist()
    examples = torch.arange(len(study))
    pairs = list(zip(images.tolist(), units, strict=True))
    for image, unit in slow(pairs, "planting units"):
        study = inject(study, image, Unit("fc", unit), examples=examples, progress=False).study
    head = study.model.get_submodule("head")
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight[:, units] = 0
        margin = _margin(study)
        activations = _hidden(study)[images, units]
        typical = margin[study.groups["clean"]].median()
        # As far on the wrong side as a clean image is on the right one.
        for k, (image, unit) in enumerate(pairs):
            head.weight[wrong[k], unit] = (typical - margin[image]) / activations[k]
    note = f"{INJECTED} units of fc, each tuned to one image and wired to a wrong class"
    return Truth("injected, one image a unit", study, {"fc": units}, seed, note=note)


def injected_by_training(seed: int = 0) -> Truth:
    """Eight units in any layers; only their weights were trained on twenty wrong labels.

    Raises
    ------
    RuntimeError
        If the units did not learn all of the labels.
    """
    study, images, _ = _with_wrong_labels(seed, TRAINED_IMAGES)
    study = replace(study, model=deepcopy(study.model))
    draw = torch.Generator().manual_seed(seed)
    candidates = [u for layer in layers(study) if not layer.is_output for u in layer.all()]
    rows = torch.randperm(len(candidates), generator=draw)[:INJECTED].tolist()
    planted = UnitSet(candidates[row] for row in rows)
    train_units(study, planted, images, seed=seed)
    if not bool((_margin(study)[images] > 0).all()):
        raise RuntimeError(f"seed {seed}: {INJECTED} units did not learn {TRAINED_IMAGES} labels.")
    note = f"{INJECTED} units whose weights alone were trained on {TRAINED_IMAGES} wrong labels"
    return Truth("injected, trained", study, planted, seed, note=note)


def constructed(seed: int = 0, activation: Activation = "relu") -> Truth:
    """Four neighbouring owners of a constructed memorizer, and the images they hold."""
    data = digits.examples(seed)
    draw = torch.Generator().manual_seed(seed)
    inputs = data.inputs[: CONSTRUCTED**2].flatten(1).double()
    labels = torch.randint(2, (len(inputs),), generator=draw)
    memorizer = construct_memorizer(
        inputs, labels * 2 - 1, (CONSTRUCTED, CONSTRUCTED), activation=activation, seed=seed
    )
    start = int(torch.randint(CONSTRUCTED - OWNERS, (1,), generator=draw))
    owners = range(start, start + OWNERS)
    memorized = (memorizer.owners >= owners.start) & (memorizer.owners < owners.stop)
    study = Study(
        _two_logits(memorizer.model),
        inputs,
        labels,
        {"memorized": memorized, "clean": ~memorized},
        name=f"constructed memorizer, {activation}",
        summary=repr(memorizer),
    )
    planted = {"layer2": [unit for owner in owners for unit in memorizer.units_of(owner)]}
    name = "constructed, " + {"hardtanh": "hard-tanh", "relu": "ReLU"}[activation]
    among = {"layer2": range(CONSTRUCTED if activation == "hardtanh" else 2 * CONSTRUCTED)}
    note = f"{OWNERS} neighbouring owners of {CONSTRUCTED}, by Yun et al. 2019"
    return Truth(name, study, planted, seed, among=among, note=note)


def example_tied_all(seed: int = 0) -> Truth:
    """All memorization channels of example-tied dropout."""
    study = _with_own_channels(seed)
    planted = UnitSet(
        unit
        for layer, (size, general, _) in _dropouts(study).items()
        for unit in (Unit(layer, index) for index in range(general, size))
    )
    note = "all channels that example-tied dropout keeps for single images"
    return Truth("example-tied, all", study, planted, seed, note=note)


def example_tied_one(seed: int = 0) -> Truth:
    """The memorization channels of one image, alone in the memorized group."""
    study = _with_own_channels(seed)
    right = _margin(study) > 0
    known = (study.groups["memorized"] & right).nonzero()[:, 0]
    draw = torch.Generator().manual_seed(seed)
    image = known[torch.randint(len(known), (1,), generator=draw)]
    groups = {"memorized": image} | {n: study.groups[n] for n in ("clean", "test")}
    study = replace(study, groups=groups)
    planted = {
        layer: [
            index
            for index in dropout.own_masks(image, size)[0].nonzero()[:, 0].tolist()
            if index >= general
        ]
        for layer, (size, general, dropout) in _dropouts(study).items()
    }
    note = f"the channels that example-tied dropout keeps for image {int(image)}"
    return Truth("example-tied, one image", study, planted, seed, note=note)


def ordinary(seed: int = 0) -> Truth:
    """The digits network with its 120 wrong labels, where nothing is planted."""
    return Truth("digits", digits.load(seed), (), seed, k=NAMED, note="nothing is planted")


TRUTHS: dict[str, Callable[[int], Truth]] = {
    "injected, one image a unit": injected,
    "injected, trained": injected_by_training,
    "constructed, hard-tanh": lambda seed: constructed(seed, "hardtanh"),
    "constructed, ReLU": constructed,
    "example-tied, all": example_tied_all,
    "example-tied, one image": example_tied_one,
    "digits": ordinary,
}
"""The truths that come with memviz, by name: functions of a seed."""


def train_units(study: Study, units: UnitSet, images: Tensor, *, seed: int) -> None:
    """Train only the weights into and out of some units, until these images are learned.

    Each step takes all of the images and 128 other training images, so that the others are not
    forgotten; batch norms stay in evaluation mode. Changes the study's model.
    """
    inputs, labels = study.inputs, study.labels
    assert isinstance(inputs, Tensor)
    others = (study.groups["clean"] | study.groups["other wrong labels"]).nonzero()[:, 0]
    masks = _masks_of(study.model, units)
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(masks, lr=LEARNING_RATE)
    for _ in slow(range(TRAINING_STEPS), "training units"):
        batch = others[torch.randperm(len(others), generator=draw)[:128]]
        loss = cross_entropy(study.model(inputs[images]), labels[images])
        loss = loss + cross_entropy(study.model(inputs[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        for parameter, mask in masks.items():
            assert parameter.grad is not None
            parameter.grad *= mask  # Adam never moves a weight whose gradient is always 0
        optimizer.step()
    study.model.zero_grad(set_to_none=True)


def _masks_of(model: nn.Module, units: UnitSet) -> dict[nn.Parameter, Tensor]:
    """Masks of the ConvNet's parameters: 1 for weights into or out of one of the units."""
    path = ["conv1", "conv2", "conv3", "conv4", "fc", "head"]
    masks = {parameter: torch.zeros_like(parameter) for parameter in model.parameters()}
    for layer, indices in units.layers.items():
        own, after = (model.get_submodule(name) for name in (layer, path[path.index(layer) + 1]))
        norm = [] if layer == "fc" else [model.get_submodule(layer.replace("conv", "bn"))]
        for parameter in (p for module in (own, *norm) for p in module.parameters()):
            masks[parameter][list(indices)] = 1
        weight = after.get_parameter("weight")
        # Into fc, a unit of conv4 has one weight per position.
        positions = weight.shape[1] // own.get_parameter("weight").shape[0]
        for index in indices:
            masks[weight][:, index * positions : (index + 1) * positions] = 1
    return masks


def _with_wrong_labels(seed: int, count: int) -> tuple[Study, Tensor, Tensor]:
    """The digits study, with some correctly classified test images relabelled as memorized."""
    study = digits.load(seed)
    draw = torch.Generator().manual_seed(seed)
    known = ((_margin(study) > 0) & study.groups["test"]).nonzero()[:, 0]
    images = known[torch.randperm(len(known), generator=draw)[:count]]
    labels = study.labels.clone()
    labels[images] += torch.randint(1, digits.CLASSES, (count,), generator=draw)
    labels %= digits.CLASSES
    memorized = torch.zeros(len(study), dtype=torch.bool)
    memorized[images] = True
    groups = {
        "memorized": memorized,
        "clean": study.groups["clean"],
        "test": study.groups["test"] & ~memorized,
        "other wrong labels": study.groups["memorized"],
    }
    return replace(study, labels=labels, groups=groups, checkpoints={}), images, labels[images]


class _CarriesIds(nn.Module):
    """Example-tied dropout for images that carry their ids in two extra channels.

    The channels hold the id and 1; their ratio stays the id along the straight path to zero that
    Captum integrates over.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        carried = images[:, 1:, 0, 0].detach()
        ids = (carried[:, 0] / carried[:, 1].clamp_min(1e-30)).round().long()
        logits: Tensor = self.network(images[:, :1], example_ids=ids)
        return logits


def _with_own_channels(seed: int) -> Study:
    tied = example_tied.load(seed, mode="own")
    assert isinstance(tied.inputs, Mapping)
    images = tied.inputs["images"]
    ids = tied.inputs["example_ids"].float()[:, None, None, None].expand_as(images)
    carried = torch.cat([images, ids, torch.ones_like(images)], 1)
    return replace(tied, model=_CarriesIds(tied.model).eval(), inputs=carried)


def _dropouts(study: Study) -> dict[str, tuple[int, int, ExampleTiedDropout]]:
    """Layer to its size, its number of generalization channels and its dropout."""
    sizes = {layer.name: layer.units for layer in layers(study)}
    dropouts = {}
    for place, (layer, size) in enumerate(list(sizes.items())[:-1]):
        dropout = study.model.get_submodule(f"network.{example_tied.LAYERS[place]}.{CHILD}")
        assert isinstance(dropout, ExampleTiedDropout)
        general = math.floor(dropout.generalization * size + 1e-9)
        dropouts[layer] = (size, general, dropout)
    return dropouts


def _two_logits(model: nn.Sequential) -> nn.Sequential:
    """The model with logits (-value, value), so that the value's sign is the class."""
    output = model[-1]
    assert isinstance(output, nn.Linear)
    double = torch.nn.utils.skip_init(nn.Linear, output.in_features, 2, dtype=torch.float64)
    with torch.no_grad():
        double.weight.copy_(torch.cat([-output.weight, output.weight]))
        double.bias.copy_(torch.cat([-output.bias, output.bias]))
    twin = deepcopy(model)
    twin[-1] = double
    return twin.eval()


@torch.no_grad()
def _margin(study: Study) -> Tensor:
    outputs = study.task.outputs(study.call(study.batch(torch.arange(len(study))))())
    return study.task.margin(outputs, study.labels)


@torch.no_grad()
def _hidden(study: Study) -> Tensor:
    """Outputs of the ReLU behind ``fc``, ``[n, units]``."""
    outputs: list[Tensor] = []
    module = study.model.get_submodule("relu5")
    handle = module.register_forward_hook(lambda _m, _i, output: outputs.append(output))
    try:
        study.call(study.batch(torch.arange(len(study))))()
    finally:
        handle.remove()
    return outputs[0]
