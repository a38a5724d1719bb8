"""Losses that hold on to what was learned early, before wrong labels are memorized.

Each is an ``nn.Module`` called as ``loss(logits, labels, indices)``, with the dataset's indices of
the batch, and gives the mean over the batch: what ``train(loss=...)`` takes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

CLAMP = 1e-4


class ELR(nn.Module):
    """Early-learning regularization: cross-entropy, and a pull towards what was predicted before.

    ``L = CE + weight * mean(log(1 - <p_i, t_i>))``, with a target for each example
    ``t_i <- beta t_i + (1 - beta) p_i``, 0 at the start, updated before the loss whenever i comes,
    and a constant in the gradient (Liu et al. 2020, eq. 7 and 10). The targets are a buffer, so
    ``state_dict`` holds them.

    As in the released code p is clamped to [1e-4, 1 - 1e-4] (where it reaches an end, the pull has
    no gradient), and renormalized for the target only. In evaluation mode targets stay.

    Parameters
    ----------
    examples, classes : size of the targets, ``[examples, classes]`` float32.
    weight : lambda of the paper.
    beta : momentum of the targets. 0 makes the target the prediction itself, and training fails.

    Raises
    ------
    ValueError : a number out of its range, or indices outside the targets.

    Examples
    --------
    >>> loss = ELR(examples=100, classes=3)
    >>> value = loss(torch.zeros(2, 3), torch.tensor([0, 1]), torch.tensor([7, 42]))
    >>> loss.targets[42]
    tensor([0.1000, 0.1000, 0.1000])
    """

    def __init__(self, examples: int, classes: int, weight: float = 3.0, beta: float = 0.7) -> None:
        super().__init__()
        if examples < 1 or classes < 2 or not weight >= 0 or not 0 <= beta < 1:
            raise ValueError(
                "ELR takes at least 1 example and 2 classes, a weight of 0 or more and beta from 0 "
                f"to below 1, but got {examples}, {classes}, {weight} and {beta}."
            )
        self.weight, self.beta = weight, beta
        self.register_buffer("targets", torch.zeros(examples, classes))
        self.targets: Tensor

    def forward(self, logits: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        """Mean loss of a batch; updates its targets."""
        logits = _single(logits)
        if self.training:
            self.update(logits, indices)
        return cross_entropy(logits, labels) + self.weight * self.pull(logits, self.of(indices))

    def update(self, logits: Tensor, indices: Tensor) -> None:
        """Move the targets of these examples towards what a network predicts for them."""
        probabilities = _single(logits.detach()).softmax(1).clamp(CLAMP, 1 - CLAMP)
        probabilities = probabilities / probabilities.sum(1, keepdim=True)
        known = self.of(indices)
        moved = self.beta * known + (1 - self.beta) * probabilities.to(known)
        self.targets[indices.to(self.targets.device)] = moved

    def of(self, indices: Tensor) -> Tensor:
        """Targets of these examples, ``[b, classes]``."""
        n = len(self.targets)
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < n:
            raise ValueError(
                f"indices run from {int(indices.min())} to {int(indices.max())}, and there are "
                f"targets of 0 to {n - 1}; give the dataset's indices and its size."
            )
        return self.targets[indices.to(self.targets.device)]

    def pull(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The regularizer, ``mean(log(1 - <p, t>))``; at least ``log(1e-4)``."""
        probabilities = _single(logits).softmax(1).clamp(CLAMP, 1 - CLAMP)
        agreement = (probabilities * targets.to(probabilities)).sum(1)
        return (1 - agreement).log().mean()

    def extra_repr(self) -> str:
        """What ``repr`` says of it."""
        examples, classes = self.targets.shape
        return f"examples={examples}, classes={classes}, weight={self.weight}, beta={self.beta}"


class Bootstrap(nn.Module):
    """Cross-entropy with labels mixed with the network's own prediction (Reed et al. 2015).

    ``t = beta y + (1 - beta) z`` with z the predicted class (hard) or the predicted probabilities
    (soft), a constant in the gradient; the paper's beta is 0.8 for hard and 0.95 for soft.

    Examples
    --------
    >>> Bootstrap(beta=0.5)(torch.tensor([[0.0, 9.0]]), torch.tensor([0]), torch.tensor([0]))
    tensor(4.5001)
    """

    def __init__(self, beta: float = 0.8, *, soft: bool = False) -> None:
        super().__init__()
        _check_share("beta", beta)
        self.beta, self.soft = beta, soft

    def forward(self, logits: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        """Mean loss of a batch."""
        classes = logits.shape[1]
        own = logits.detach().softmax(1)
        own = own if self.soft else one_hot(own.argmax(1), classes).to(logits)
        given = one_hot(labels, classes).to(logits)
        return cross_entropy(logits, self.beta * given + (1 - self.beta) * own)

    def extra_repr(self) -> str:
        """What ``repr`` says of it."""
        return f"beta={self.beta}, soft={self.soft}"


class ForwardCorrection(nn.Module):
    """Cross-entropy of the noisy label, given how labels are corrupted (Patrini et al. 2017).

    ``-log sum_k p_k T[k, y]`` with ``T[k, y]`` the probability that true class k is labelled y.

    Parameters
    ----------
    transition : ``[classes, classes]``, rows that add up to 1; see :func:`symmetric_transition`.

    Examples
    --------
    >>> loss = ForwardCorrection(symmetric_transition(10, 0.4))
    >>> loss(torch.zeros(1, 10), torch.tensor([3]), torch.tensor([0]))
    tensor(2.3026)
    """

    def __init__(self, transition: Tensor) -> None:
        super().__init__()
        square = transition.ndim == 2 and transition.shape[0] == transition.shape[1]
        if (
            not square
            or transition.min() < 0
            or not torch.allclose(
                transition.sum(1), transition.new_ones(len(transition)), atol=1e-5
            )
        ):
            raise ValueError(
                f"transition has shape {list(transition.shape)}; give a square matrix whose rows "
                "are probabilities that add up to 1."
            )
        self.register_buffer("transition", transition)
        self.transition: Tensor

    def forward(self, logits: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        """Mean loss of a batch."""
        # In logarithms, so that a tiny probability is not rounded to 0.
        joint = logits.log_softmax(1) + self.transition.to(logits)[:, labels].T.log()
        return -joint.logsumexp(1).mean()


def symmetric_transition(classes: int, rate: float) -> Tensor:
    """Transition matrix where a share of labels is drawn anew from all classes, the own included.

    Examples
    --------
    >>> symmetric_transition(2, 0.4)
    tensor([[0.8000, 0.2000],
            [0.2000, 0.8000]])
    """
    _check_share("rate", rate)
    return (1 - rate) * torch.eye(classes) + rate / classes


class GCE(nn.Module):
    """Generalized cross-entropy ``(1 - p_y^q) / q`` (Zhang & Sabuncu 2018), without truncation.

    ``q`` goes from 0 (cross-entropy) to 1 (mean absolute error); the paper's is 0.7.

    Examples
    --------
    >>> GCE(q=1.0)(torch.zeros(1, 4), torch.tensor([3]), torch.tensor([0]))
    tensor(0.7500)
    """

    def __init__(self, q: float = 0.7) -> None:
        super().__init__()
        if not 0 < q <= 1:
            raise ValueError(f"q must lie above 0 and not above 1, but got {q}.")
        self.q = q

    def forward(self, logits: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        """Mean loss of a batch."""
        given = _single(logits).log_softmax(1).gather(1, labels[:, None])
        # 1 - exp would be 0 for a small q, where the loss tends to cross-entropy.
        return (-(self.q * given).expm1() / self.q).mean()

    def extra_repr(self) -> str:
        """What ``repr`` says of it."""
        return f"q={self.q}"


def _single(logits: Tensor) -> Tensor:
    """At least single precision: in half, 1 - 1e-4 is 1, and the pull would be log 0."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class SymmetricCrossEntropy(nn.Module):
    """``alpha CE + beta RCE`` (SL, Wang et al. 2019), the reverse one with ``log 0 = -4``.

    With a label that is one class, the reverse cross-entropy is ``4 (1 - p_y)``. The paper's alpha
    and beta for CIFAR-10 are 0.1 and 1.

    Examples
    --------
    >>> loss = SymmetricCrossEntropy(alpha=0.0)
    >>> loss(torch.zeros(1, 4), torch.tensor([3]), torch.tensor([0]))
    tensor(3.)
    """

    def __init__(self, alpha: float = 0.1, beta: float = 1.0) -> None:
        super().__init__()
        if not alpha >= 0 or not beta >= 0:
            raise ValueError(f"alpha and beta must be 0 or more, but got {alpha} and {beta}.")
        self.alpha, self.beta = alpha, beta

    def forward(self, logits: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        """Mean loss of a batch."""
        given = logits.softmax(1).gather(1, labels[:, None])
        return self.alpha * cross_entropy(logits, labels) + self.beta * 4 * (1 - given).mean()

    def extra_repr(self) -> str:
        """What ``repr`` says of it."""
        return f"alpha={self.alpha}, beta={self.beta}"


def stopping_epoch(accuracy: Tensor, patience: int | None = None) -> int:
    """The epoch that early stopping keeps, counted from 1: the best one, the first of equals.

    Judge by held-out examples whose labels are as noisy as the training's: choosing by clean test
    labels flatters the run. Show the last epoch beside it.

    Parameters
    ----------
    accuracy : ``[epochs]`` on the held-out examples.
    patience : epochs without a better one after which training stops; never, unless given.

    Raises
    ------
    ValueError : no epochs, NaN, or a patience below 1.

    Examples
    --------
    >>> stopping_epoch(torch.tensor([0.5, 0.7, 0.6, 0.6, 0.9]), patience=2)
    2
    """
    if accuracy.ndim != 1 or not len(accuracy) or accuracy.isnan().any():
        raise ValueError(
            f"accuracy has shape {list(accuracy.shape)}; give a number for each epoch."
        )
    if patience is not None and patience < 1:
        raise ValueError(f"patience must be at least 1 epoch, but got {patience}.")
    best = 0
    for epoch in range(1, len(accuracy)):
        if accuracy[epoch] > accuracy[best]:
            best = epoch
        elif patience is not None and epoch - best >= patience:
            break
    return best + 1


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, but got {value}.")
