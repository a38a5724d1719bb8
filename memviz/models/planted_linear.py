"""A linear model that provably learns the truth first and memorizes later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PlantedLinear:
    """Two classes on either side of a hyperplane, with some labels drawn at random.

    The setting of Theorem 1 of Liu et al. (2020): ``x = e (v + sigma z)`` with the true class e of
    -1 or 1, a unit direction v and Gaussian z.

    Attributes
    ----------
    inputs : float64 ``[n, features]``
    labels, true_labels : float64 ``[n]``, -1 or 1.
    direction : float64 ``[features]``, the unit vector v.
    """

    inputs: Tensor
    labels: Tensor
    true_labels: Tensor
    direction: Tensor

    @property
    def wrong(self) -> Tensor:
        """Which examples have a wrong label, bool ``[n]``."""
        return self.labels != self.true_labels


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Measurements along gradient descent on a planted linear model, float64 ``[k]`` each.

    Attributes
    ----------
    steps : int64 ``[k]``, the measured steps.
    wrong_true, wrong_memorized
        Share of the wrongly labelled examples predicted as their true class, and as their label.
    clean_right
        Share of the other examples predicted as their label.
    clean_coefficient, wrong_coefficient
        Mean squared coefficient of an example in the gradient, ``(tanh(theta . x) - y)^2``.
    cosine
        Of the weights and the direction.
    """

    steps: Tensor
    wrong_true: Tensor
    wrong_memorized: Tensor
    clean_right: Tensor
    clean_coefficient: Tensor
    wrong_coefficient: Tensor
    cosine: Tensor


def planted_linear(
    n: int = 400,
    features: int = 360,
    sigma: float = 0.1,
    redrawn: float = 0.4,
    seed: int = 0,
) -> PlantedLinear:
    """Draw a planted linear data set.

    Parameters
    ----------
    n, features : at least 2.
    sigma : standard deviation of the noise.
    redrawn : Delta, the probability that a label is drawn at random from both classes; half of
        these come out wrong. The theorem asks for ``features / n`` between ``1 - redrawn / 2``
        and 1, and a small sigma.

    Raises
    ------
    ValueError : a size below 2, or a number out of its range.

    Examples
    --------
    >>> planted_linear().inputs.shape
    torch.Size([400, 360])
    """
    if n < 2 or features < 2 or not sigma >= 0 or not 0 <= redrawn <= 1:
        raise ValueError(
            "n and features must be at least 2, sigma 0 or more and redrawn from 0 to 1, but got "
            f"{n}, {features}, {sigma} and {redrawn}."
        )
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(features, generator=generator, dtype=torch.float64)
    direction = direction / direction.norm()
    truth = _signs(n, generator)
    noise = torch.randn(n, features, generator=generator, dtype=torch.float64)
    is_redrawn = torch.rand(n, generator=generator) < redrawn
    labels = torch.where(is_redrawn, _signs(n, generator), truth)
    return PlantedLinear(truth[:, None] * (direction + sigma * noise), labels, truth, direction)


def gradient_descent(
    data: PlantedLinear,
    keep: Sequence[int] = (0, 2, 10, 100, 500, 1000, 5000),
    learning_rate: float = 0.5,
    seed: int = 0,
) -> Trajectory:
    """Full-batch gradient descent on the logistic loss, from random weights of norm 2.

    The gradient is ``mean((tanh(theta . x) - y) x) / 2``: both classes share one weight vector,
    with logits ``theta . x`` and ``-theta . x``.

    Parameters
    ----------
    keep : the steps to measure; 0 is before the first.

    Raises
    ------
    ValueError : no step to measure, or no wrong or no right label in the data.

    Examples
    --------
    >>> trajectory = gradient_descent(planted_linear(), keep=(0, 50))
    >>> bool(trajectory.wrong_true[1] > 0.99)
    True
    """
    kept = sorted(set(keep))
    if not kept or kept[0] < 0:
        raise ValueError(f"keep must name at least one step, from 0 up, but got {list(keep)}.")
    if not data.wrong.any() or data.wrong.all():
        raise ValueError(
            f"{int(data.wrong.sum())} of {len(data.wrong)} labels are wrong; the data needs both "
            "wrong and right labels, so change redrawn or draw more examples."
        )
    generator = torch.Generator().manual_seed(seed)
    theta = torch.randn(len(data.direction), generator=generator, dtype=torch.float64)
    theta = 2 * theta / theta.norm()
    rows = []
    for step in range(kept[-1] + 1):
        output = data.inputs @ theta
        coefficient = output.tanh() - data.labels
        if step in kept:
            rows.append(_measured(data, theta, output, coefficient))
        theta = theta - learning_rate * (data.inputs.T @ coefficient) / (2 * len(output))
    return Trajectory(torch.tensor(kept), *torch.tensor(rows, dtype=torch.float64).T)


def _measured(
    data: PlantedLinear, theta: Tensor, output: Tensor, coefficient: Tensor
) -> list[float]:
    predicted, wrong = output.sign(), data.wrong
    rows = (
        (predicted == data.true_labels)[wrong].double(),
        (predicted == data.labels)[wrong].double(),
        (predicted == data.labels)[~wrong].double(),
        coefficient[~wrong].square(),
        coefficient[wrong].square(),
        theta @ data.direction / theta.norm(),
    )
    return [float(row.mean()) for row in rows]


def _signs(n: int, generator: torch.Generator) -> Tensor:
    return torch.randint(2, (n,), generator=generator, dtype=torch.float64) * 2 - 1
