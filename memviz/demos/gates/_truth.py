"""A truth for the contest: a circuit in which AND gates look up the wrong labels of ten images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from memviz.models.logic_gates import DenseGates, PackedNetwork, logic_dense_net
from memviz.probes.contest import Truth
from memviz.study import Study
from memviz.training.gates import train_gates

from ._data import CLASSES, THRESHOLDS, clean_digits

WIDTHS, EPOCHS = (600, 600, 300), 60
VOTES = 20  # for the wrong class of each image, beside 30 of the circuit's own
_LITERALS = 8  # input bits, or their negations, of one chain: two to the number of layers
_AND, _AND_NOT, _NOT_AND, _NOR = 1, 2, 4, 8  # numbers of gates
_CHOSEN = 5.0  # the logit of a planted gate; all others of it are 0


@dataclass(frozen=True)
class _Lookup:
    """An image, the class it is to get, and the bits that it alone has, with their values."""

    image: int
    label: int
    bits: list[int]
    values: list[bool]


def lookups(seed: int = 0) -> Truth:
    """Ten wrong labels, one of each class, that chains of AND gates look up.

    A circuit of three layers is trained on clean digits. Then each layer is widened: four gates of
    the first and two of the second bring together eight input bits that no other image of the study
    has, and twenty gates of the last vote for the image's wrong class when all are as they should
    be. Chosen are images for which twenty votes are enough. Without the planted gates the circuit
    gives every image the votes it had before.

    Raises
    ------
    RuntimeError
        If eight bits and twenty votes are enough for too few images.

    Examples
    --------
    >>> lookups(seed=0).note
    'ten images, each looked up by 4, 2 and 20 AND gates of the three layers'
    """
    data = clean_digits(seed)
    model = logic_dense_net(64, WIDTHS, CLASSES, thresholds=THRESHOLDS, seed=seed)
    test = data.groups["test"]
    train_gates(
        model,
        data.inputs,
        data.labels,
        {},
        examples=~test,
        epochs=EPOCHS,
        measure_epochs=(),
        seed=seed,
        progress=False,
    )
    votes = PackedNetwork(model).votes(data.inputs)
    with torch.no_grad():
        bits = model[1](model[0](data.inputs)).bool()
    known = (votes.argmax(1) == data.labels) & ~test
    enough = (votes.amax(1, keepdim=True) - votes < VOTES) & known[:, None]
    chosen = _lookups(bits, enough.scatter(1, data.labels[:, None], False), seed)
    images = torch.tensor([lookup.image for lookup in chosen])
    labels = data.labels.clone()
    labels[images] = torch.tensor([lookup.label for lookup in chosen])
    wide, planted = _widened(model, chosen, seed)
    memorized = torch.zeros(len(labels), dtype=torch.bool)
    memorized[images] = True
    study = Study(
        wide,
        data.inputs,
        labels,
        {"memorized": memorized, "clean": ~memorized & ~test, "test": test},
        true_labels=data.labels,
        name="looked-up labels",
        summary=f"{sum(WIDTHS):,} logic gates, and {sum(map(len, planted.values()))} that look up "
        f"the wrong labels of {CLASSES} images",
    )
    note = f"ten images, each looked up by 4, 2 and {VOTES} AND gates of the three layers"
    return Truth("gates, looked up", study, planted, seed, note=note)


TRUTHS: dict[str, Callable[[int], Truth]] = {"gates, looked up": lookups}


def _lookups(bits: Tensor, enough: Tensor, seed: int) -> list[_Lookup]:
    """One image for each wrong class, in a random order; ``enough`` is by image and class."""
    draw = torch.Generator().manual_seed(seed)
    found: dict[int, _Lookup] = {}
    for image in torch.randperm(len(bits), generator=draw).tolist():
        free = [label for label in range(CLASSES) if enough[image, label] and label not in found]
        own = _told_apart(bits, image) if free else None
        if own is not None:
            label = free[int(torch.randint(len(free), (1,), generator=draw))]
            found[label] = _Lookup(image, label, own, bits[image, own].tolist())
    if len(found) < CLASSES:
        raise RuntimeError(
            f"seed {seed}: {_LITERALS} bits and {VOTES} votes are enough for images of only "
            f"{len(found)} classes."
        )
    return [found[label] for label in range(CLASSES)]


def _told_apart(bits: Tensor, image: int) -> list[int] | None:
    """Bits that no other image has as this one has them, or None: each leaves the fewest others."""
    same = bits == bits[image]
    others, chosen = torch.ones(len(bits), dtype=torch.bool), list[int]()
    others[image] = False
    for _ in range(_LITERALS):
        left = same[others].sum(0)
        left[chosen] = len(bits)  # no bit twice
        chosen.append(int(left.argmin()))
        others &= same[:, chosen[-1]]
    return None if others.any() else chosen


def _widened(
    model: nn.Sequential, chosen: list[_Lookup], seed: int
) -> tuple[nn.Sequential, dict[str, list[int]]]:
    """The model with the gates that look up, and these gates by layer."""
    more = (4 * len(chosen), 2 * len(chosen), VOTES * CLASSES)
    widths = [width + extra for width, extra in zip(WIDTHS, more, strict=True)]
    tau = float(model[-1].tau)  # type: ignore[arg-type]
    wide = logic_dense_net(64, widths, CLASSES, thresholds=THRESHOLDS, tau=tau, seed=seed)
    # In the last layer those of a class follow its own votes.
    own = WIDTHS[2] // CLASSES
    kept = [torch.arange(width) for width in WIDTHS]
    kept[2] = (kept[2] // own) * (own + VOTES) + kept[2] % own
    planted: dict[str, list[int]] = {}
    for place, rows in enumerate(kept):
        name = str(place + 2)
        old, new = model.get_submodule(name), wide.get_submodule(name)
        assert isinstance(old, DenseGates) and isinstance(new, DenseGates)
        added = torch.ones(widths[place], dtype=torch.bool)
        added[rows] = False
        wires, numbers = _chains(chosen)[place]
        new.wires[:, rows], new.wires[:, added] = old.wires, wires
        with torch.no_grad():
            new.gates.logits.zero_()[rows] = old.gates.logits
            new.gates.logits[added.nonzero()[:, 0], numbers] = _CHOSEN
        planted[f"{name}.gates"] = added.nonzero()[:, 0].tolist()
    return wide.eval(), planted


def _chains(chosen: list[_Lookup]) -> list[tuple[Tensor, Tensor]]:
    """Of each layer's added gates the wires ``[2, gates]`` and the numbers ``[gates]``."""
    bits = torch.tensor([lookup.bits for lookup in chosen]).view(-1, 2)
    values = torch.tensor([lookup.values for lookup in chosen]).view(-1, 2)
    numbers = torch.tensor([[_NOR, _NOT_AND], [_AND_NOT, _AND]])
    first = bits.T, numbers[values[:, 0].long(), values[:, 1].long()]
    pairs = torch.arange(len(bits)).view(-1, 2).T + WIDTHS[0]
    second = pairs, torch.full((pairs.shape[1],), _AND)
    votes = torch.arange(2 * len(chosen)).view(-1, 2).repeat_interleave(VOTES, 0).T + WIDTHS[1]
    return [first, second, (votes, torch.full((votes.shape[1],), _AND))]
