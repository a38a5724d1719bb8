"""Early learning (Liu et al. 2020): wrong labels are first predicted right, then memorized."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from memviz.checks import IndicesLike, as_numbers, checked, coded
from memviz.scores import Null, Scores
from memviz.training.run import TrainingRun

if TYPE_CHECKING:
    import pandas as pd

SOURCE = "Liu et al. 2020 (arXiv:2007.00151)"
PREDICTED = ("true", "memorized", "other")


@dataclass(frozen=True, eq=False)
class Fractions:
    """What is predicted for clean and for mislabelled examples, epoch by epoch.

    Attributes
    ----------
    clean, wrong : float64 ``[epochs, 3]``
        Share of the examples predicted as their true class, as their wrong label (memorized), and
        as any other class. Clean examples have no wrong label, so their second share is 0.
    sizes : tuple of int
        Number of clean and of mislabelled examples.
    null : Fractions or None
        Of the same network trained with cross-entropy from the same seed.
    """

    clean: np.ndarray
    wrong: np.ndarray
    sizes: tuple[int, int]
    null: Fractions | None = None

    @property
    def peak(self) -> int:
        """Epoch, counted from 1, after which the most mislabelled examples are predicted right."""
        return int(self.wrong[:, 0].argmax()) + 1

    @property
    def frame(self) -> pd.DataFrame:
        """A tidy pandas table: epoch, labels, predicted, fraction, and the null beside it."""
        import pandas as pd

        epochs = len(self.wrong)
        columns = {
            "epoch": np.repeat(np.arange(1, epochs + 1), 6),
            "labels": np.tile(np.repeat(["clean", "wrong"], 3), epochs),
            "predicted": np.tile(PREDICTED, 2 * epochs),
            "fraction": self._values(),
        }
        if self.null is not None:
            columns["null"] = self.null._values()
        frame = pd.DataFrame(columns)
        frame.attrs = {"name": "early learning", "measure": "fraction", "source": SOURCE}
        return frame

    def _values(self) -> np.ndarray:
        return np.stack([self.clean, self.wrong], 1).ravel()

    def __repr__(self) -> str:
        lines = [f"early learning of {self.sizes[1]:,} wrong and {self.sizes[0]:,} clean labels"]
        for words, fractions in (("", self), ("null, cross-entropy: ", self.null)):
            if fractions is not None:
                peak, last = fractions.wrong[fractions.peak - 1], fractions.wrong[-1]
                lines.append(
                    f"  {words}wrong labels predicted true {peak[0]:.3f} at the peak, epoch "
                    f"{fractions.peak}, {last[0]:.3f} at the end; memorized {last[1]:.3f}; clean "
                    f"right {fractions.clean[-1, 0]:.3f}"
                )
        return "\n".join([*lines, f"source: {SOURCE}, figure 1"])


@checked
def three_way(
    run: TrainingRun | Tensor,
    labels: Tensor,
    true_labels: Tensor,
    examples: IndicesLike | None = None,
    null: TrainingRun | Tensor | None = None,
) -> Fractions:
    """Shares of predictions that are true, memorized or other, over the epochs.

    The recorder evaluates without augmentation; with augmentation no memorization shows (the
    authors' issue 23).

    Parameters
    ----------
    run : TrainingRun, or int64 ``[epochs, n]``
        A recorded training, or its predicted classes.
    labels, true_labels : int64 ``[n]``
    examples : int64, optional
        Examples that were trained on, each once; all by default.
    null : TrainingRun, or int64 ``[epochs, n]``, optional
        The cross-entropy run with the same seed.

    Returns
    -------
    Fractions

    Raises
    ------
    ValueError
        If lengths differ, values are not classes, an example is unknown or given twice, or no
        example has a wrong label, or none a right one.

    Examples
    --------
    >>> predicted = torch.tensor([[0, 1, 2], [0, 1, 0]])
    >>> three_way(predicted, torch.tensor([0, 1, 0]), torch.tensor([0, 1, 2])).wrong
    array([[1., 0., 0.],
           [0., 1., 0.]])
    """
    labels, true_labels = _classes("labels", labels, 1), _classes("true_labels", true_labels, 1)
    predictions = _predictions(run, labels)
    if labels.shape != true_labels.shape:
        raise ValueError(
            coded(
                "E16",
                f"there are {len(labels)} labels and {len(true_labels)} true labels; they must "
                "have the same length.",
            )
        )
    chosen = _chosen(examples, len(labels))
    wrong = chosen[labels[chosen] != true_labels[chosen]]
    clean = chosen[labels[chosen] == true_labels[chosen]]
    if not len(wrong) or not len(clean):
        raise ValueError(
            f"{len(wrong)} of the examples have a wrong label and {len(clean)} a right one; choose "
            "examples of both kinds."
        )
    null_fractions = None if null is None else three_way(null, labels, true_labels, examples)
    if null_fractions is not None and len(null_fractions.wrong) != len(predictions):
        raise ValueError(
            f"the null has {len(null_fractions.wrong)} epochs and the run {len(predictions)}; "
            "train both for the same number of epochs."
        )
    return Fractions(
        _shares(predictions[:, clean], labels[clean], true_labels[clean]),
        _shares(predictions[:, wrong], labels[wrong], true_labels[wrong]),
        (len(clean), len(wrong)),
        null_fractions,
    )


@checked
def detected_as_wrong(
    targets: Tensor,
    labels: Tensor,
    examples: IndicesLike | None = None,
    null_targets: Tensor | None = None,
) -> Scores:
    """How strongly the targets of ELR contradict each label; above 0 it is judged wrong.

    The largest target of another class minus that of the given label; above 0 where
    ``argmax t_i != y_i``, the rule of the authors' README. It is 0 where the given label's target
    ties with the largest other, which does not count as wrong; argmax would go by the number of the
    class.

    Parameters
    ----------
    targets : float ``[n, classes]``
        The buffer of :class:`memviz.training.early_learning.ELR`.
    labels : int64 ``[n]``
    examples : int64, optional
        Examples that were trained on, each once; all by default.
    null_targets : float ``[n, classes]``, optional
        Of ``ELR(weight=0)``: cross-entropy from the same seed, which memorizes.

    Returns
    -------
    Scores
        Over examples.

    Raises
    ------
    ValueError
        If targets and labels do not fit, a target is NaN, an example is unknown or given twice, or
        it was never trained on.

    Examples
    --------
    >>> detected_as_wrong(torch.tensor([[0.75, 0.0], [0.75, 0.25]]), torch.tensor([0, 1])).values
    array([-0.75,  0.5 ])
    """
    labels = _classes("labels", labels, 1)
    targets = _targets("targets", targets, labels)
    chosen = _chosen(examples, len(labels))
    unseen = chosen[(targets[chosen] == 0).all(1)]
    if len(unseen):
        raise ValueError(
            f"example {int(unseen[0])} has no target: it was never trained on; leave it out of "
            "examples."
        )
    evidence = _against(targets[chosen], labels[chosen])
    null = None
    if null_targets is not None:
        words = "the same targets kept beside cross-entropy alone, from the same seed"
        others = _targets("null_targets", null_targets, labels)
        null = Null(words, _against(others[chosen], labels[chosen])[None])
    return Scores(
        "target against label",
        "probability",
        evidence,
        examples=chosen.numpy(),
        higher="label more likely wrong",
        source=f"{SOURCE}, eq. 10; detection as in the authors' README",
        null=null,
    )


def _against(targets: Tensor, labels: Tensor) -> np.ndarray:
    given = targets.double().gather(1, labels[:, None])[:, 0]
    others = targets.double().scatter(1, labels[:, None], -torch.inf).amax(1)
    return np.asarray((others - given).numpy())


def _classes(what: str, given: Any, axes: int) -> Tensor:
    """Whole numbers on the CPU, from a tensor, an array or a list."""
    classes = as_numbers(what, given, "give whole numbers, one per example").cpu()
    if classes.dtype == torch.bool or (classes != classes.long()).any():
        raise ValueError(f"{what} is {classes.dtype} and must hold classes; give whole numbers.")
    if classes.dim() != axes:
        wanted = "[n]" if axes == 1 else "[epochs, n]"
        raise ValueError(f"{what} has shape {list(classes.shape)}; give whole numbers, {wanted}.")
    return classes.long()


def _chosen(examples: Any, n: int) -> Tensor:
    """Indices of examples, each once."""
    if examples is None:
        return torch.arange(n)
    chosen = as_numbers("examples", examples, "give indices, int64 [m]").cpu()
    if chosen.dim() != 1 or chosen.is_floating_point() or chosen.dtype == torch.bool:
        raise ValueError(
            f"examples is {chosen.dtype} of shape {list(chosen.shape)}; give indices, int64 [m]."
        )
    outside = chosen[(chosen < 0) | (chosen >= n)]
    if len(outside) or len(chosen.unique()) < len(chosen):
        wrong = f"{int(outside[0])}, outside 0 to {n - 1}" if len(outside) else "an example twice"
        raise ValueError(f"examples names {wrong}; give each index once.")
    return chosen.long()


def _targets(what: str, given: Tensor, labels: Tensor) -> Tensor:
    """Targets ``[n, classes]`` on the CPU, checked against the labels."""
    targets = as_numbers(what, given, "give one column per class, [n, classes]").cpu()
    if not targets.dim() or targets.shape[0] != len(labels):
        raise ValueError(
            coded(
                "E16",
                f"there are {targets.shape[0] if targets.dim() else 'no'} {what} and {len(labels)} "
                "labels; they must have the same length.",
            )
        )
    classes = targets.shape[1] if targets.dim() == 2 else 0
    if classes < 2 or (len(labels) and not 0 <= labels.min() <= labels.max() < classes):
        raise ValueError(
            f"{what} has shape {list(targets.shape)} for "
            f"{f'labels up to {int(labels.max())}' if len(labels) else 'no labels'}; give one "
            "column per class, [n, classes]."
        )
    if targets.isnan().any():
        raise ValueError(f"{what} holds NaN; give those of a training that did not diverge.")
    return targets


def _predictions(run: TrainingRun | Tensor, labels: Tensor) -> Tensor:
    predictions = run.predictions if isinstance(run, TrainingRun) else run
    predictions = _classes("the predictions", predictions, 2)
    if predictions.ndim != 2 or predictions.shape[1] != len(labels) or not len(predictions):
        raise ValueError(
            f"predictions have shape {list(predictions.shape)} for {len(labels)} labels; give a "
            "TrainingRun of these examples, or their predicted classes [epochs, n]."
        )
    return predictions


def _shares(predictions: Tensor, labels: Tensor, true_labels: Tensor) -> np.ndarray:
    true = predictions == true_labels
    memorized = (predictions == labels) & ~true
    rows = torch.stack([true, memorized, ~true & ~memorized], 1).double()
    return np.asarray(rows.mean(2).numpy())
