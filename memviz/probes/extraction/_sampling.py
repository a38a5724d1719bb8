"""Extraction by sampling: the chance of a passage, and how many tries it takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz.checks import Count, checked
from memviz.models.causal import Causal
from memviz.progress import slow
from memviz.tasks import Language

from ._passages import as_passages


@checked
def sampling_probabilities(
    model: nn.Module,
    passages: Any,
    prompt: int = 32,
    continuation: int = 32,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    batch_size: Count = 64,
    progress: bool = True,
) -> np.ndarray:
    """p_z: the chance that sampling from the prompt gives exactly the continuation.

    ``p_z = Π_t q(s_t | prompt, s_<t)``, where q are the probabilities that are sampled from, after
    temperature and top-k, from one forward pass (Hayes et al. 2024). Above ½ the passage is also
    recited greedily.

    Parameters
    ----------
    model, passages, prompt, continuation, batch_size, progress
        As for :func:`extract`.
    temperature : float
        Above 0; logits are divided by it.
    top_k : int, optional
        Sample from this many most likely tokens only; of tokens that tie with the last of them,
        those with the smaller ids.

    Returns
    -------
    float64 ``[n]``

    Raises
    ------
    ValueError
        As for :func:`extract`, or if temperature or ``top_k`` are not positive.

    Examples
    --------
    >>> uniform = nn.Embedding.from_pretrained(torch.zeros(5, 5)).eval()
    >>> sampling_probabilities(uniform, [[0, 1, 2]], prompt=1, continuation=2).round(3)
    array([0.04])
    """
    causal = Causal(model)
    tokens = as_passages(passages, prompt, continuation)
    task, parts = Language(prompt, continuation), []
    for batch in slow(tokens.split(batch_size), "reading", progress=progress):
        logits = sampled_from(task.outputs(causal.logits(batch[:, :-1])), temperature, top_k)
        true = batch[:, prompt:].to(logits.device)
        parts.append(task.log_likelihoods(logits, true).sum(1).exp().cpu())
    return torch.cat(parts).numpy()


def sampled_from(logits: Tensor, temperature: float, top_k: int | None) -> Tensor:
    """Logits of the tokens that are sampled from, -inf for the others, float64 like ``logits``.

    Raises
    ------
    ValueError
        If temperature or ``top_k`` are not positive.

    Examples
    --------
    >>> sampled_from(torch.tensor([[1.0, 3.0, 2.0]]), 2.0, 1)
    tensor([[  -inf, 1.5000,   -inf]], dtype=torch.float64)
    """
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise ValueError(f"temperature is {temperature!r}; give a number above 0.")
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1):
        raise ValueError(f"top_k is {top_k!r}; give a number of tokens, 1 or more.")
    scaled = logits.double() / temperature
    return scaled if top_k is None else _only_largest(scaled, top_k)


def _only_largest(logits: Tensor, k: int) -> Tensor:
    if k >= logits.shape[-1]:
        return logits
    # Stable, so that of equal logits those of smaller ids stay.
    order = logits.sort(dim=-1, descending=True, stable=True).indices
    return logits.scatter(-1, order[..., k:], -torch.inf)


@checked
def discoverable(p_z: np.ndarray | float, n: int, p: float) -> np.ndarray:
    """Whether a passage is (n, p)-discoverable: n samples contain it with probability p or more.

    ``1 - (1 - p_z)^n ≥ p`` (Hayes et al. 2024).

    Examples
    --------
    >>> discoverable([0.162, 0.01], n=14, p=0.9)
    array([ True, False])
    """
    _check_probability("p", p)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n is {n!r}; give a number of samples, 1 or more.")
    return samples_needed(p_z, p) <= n


@checked
def samples_needed(p_z: np.ndarray | float, p: float) -> np.ndarray:
    """The least number of samples that contain a passage with probability p, float64 ``[...]``.

    ``⌈log(1 - p) / log(1 - p_z)⌉``; inf where ``p_z`` is 0.

    Examples
    --------
    >>> samples_needed(0.162, 0.5), samples_needed([0.162, 0.0], 0.9)
    (array(4.), array([14., inf]))
    """
    _check_probability("p", p)
    chance = np.asarray(p_z, dtype=np.float64)
    if not ((chance >= 0) & (chance <= 1)).all():
        raise ValueError("p_z holds numbers outside 0 to 1; give probabilities.")
    with np.errstate(divide="ignore"):
        needed = np.where(chance > 0, np.log1p(-p) / np.log1p(-chance), np.inf)
    # Rounded first: 1 - (1 - p_z)^n = p holds exactly for some n.
    return np.asarray(np.maximum(1.0, np.ceil(np.round(needed, 9))))


def _check_probability(name: str, value: float) -> None:
    if not (isinstance(value, int | float) and 0 < value < 1):
        raise ValueError(f"{name} is {value!r}; give a probability between 0 and 1.")
