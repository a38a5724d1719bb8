"""An encoder's features of each image, once it is known that they are the image's own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from memviz.checks import described, listed
from memviz.engine.activations import check_repeats, differing, examined, floats
from memviz.engine.record import is_out_of_memory, tensors_in
from memviz.restored import undisturbed
from memviz.tasks.task import Inputs

Key = TypeVar("Key", bound=Hashable)


def called(model: nn.Module, inputs: Inputs, what: str) -> object:
    """What a model returns for a batch; one sentence if it fails on it.

    Examples
    --------
    >>> called(nn.Linear(4, 2), torch.ones(2, 3), "images")
    Traceback (most recent call last):
    ValueError: the model failed on images, torch.float32 of shape (2, 3): RuntimeError: ...
    """
    try:
        return model(inputs) if isinstance(inputs, Tensor) else model(**inputs)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        given = described(inputs) if isinstance(inputs, Tensor) else listed(inputs)
        first = str(error).split("\n")[0][:200].rstrip(".")
        raise ValueError(
            f"the model failed on {what}, {given}: {type(error).__name__}: {first}; give what it "
            "takes, in its own dtype."
        ) from error


def encoded(encoder: nn.Module, images: Tensor) -> Tensor:
    """The encoder's flattened output for each image, ``[n, features]``, on its device.

    Raises
    ------
    ValueError
        If it fails on the images, does not return one row per image, or returns several tensors
        that could be the features.

    Examples
    --------
    >>> encoded(nn.Flatten(), torch.zeros(3, 2, 2)).shape
    torch.Size([3, 4])
    """
    device = next((p.device for p in encoder.parameters()), images.device)
    calm = undisturbed(random=False)
    with calm, calm:
        found = called(encoder, images.to(device), "images")
        outputs = {id(output): output for output in tensors_in(found)}
    features = [rows for rows in outputs.values() if rows.dim() > 1 and len(rows) == len(images)]
    if len(features) > 1:
        shapes = ", ".join(str(list(rows.shape)) for rows in features)
        raise ValueError(
            f"the encoder returns {len(features)} tensors with a row per image ({shapes}); wrap it "
            "so that it returns its features alone."
        )
    if not features:
        raise ValueError(
            "the encoder does not return one row of features per image; give one that does."
        )
    return floats(features[0].flatten(1))


def check_own(
    encode: Callable[[Tensor], Mapping[Key, Tensor]],
    images: Tensor,
    encoder: nn.Module | None = None,
    *,
    draws: bool = False,
) -> set[Key]:
    """Where an image's features are not its own, but depend on the other images or its place.

    Parameters
    ----------
    encode : callable
        Maps images to rows of features, by name.
    images : Tensor ``[n, ...]``
    encoder : nn.Module, optional
        Its weights tell how coarse the features are; float32 by default.
    draws : bool
        Whether the encoder is known to draw from torch's generator, which ``encode`` restores.

    Raises
    ------
    ValueError
        If a second call gives other features.

    Examples
    --------
    >>> images = torch.tensor([[1.0], [1.0], [2.0]])
    >>> check_own(lambda x: {"own": x, "coupled": x - x.mean(0)}, images)
    {'coupled'}
    """
    tried = images[examined(images, torch.arange(len(images)))]
    batch = check_repeats(lambda: encode(tried), draws=draws)
    back = list(range(len(tried)))[::-1]
    wrong: set[Key] = set()
    for part in ([0], back, back[: len(back) // 2]):
        rows = {name: values[part] for name, values in batch.items()}
        wrong |= differing(rows, encode(tried[part]), encoder)
    return wrong


def not_its_own(where: str = "") -> ValueError:
    """The error for features that depend on the batch."""
    place = f"at {where!r} " if where else ""
    advice = "choose other layers, or " if where else "use "
    return ValueError(
        f"{place}an image's features depend on the other images of its batch, or on its place "
        f"there; {advice}an encoder that treats each image by itself."
    )
