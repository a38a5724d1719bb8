"""Labels as numbered names, which is all that the browser knows of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from memviz.study import Study, has_classes

UNKNOWN = 65535
_MOST = 65_000  # names; numbers are sent as uint16
_OTHERS = {
    "class": ["another class"],
    "set": ["another set"],
    "row": ["too far off"],
    "number": ["too low", "too high", "no number"],
}


@dataclass(frozen=True)
class Labels:
    """The label of each example as a number with a name.

    If the labels are classes, the numbers are the classes. Otherwise each distinct label has a
    number; a right prediction has that of the label, and a wrong one that of another label or of
    words such as "too low". So two numbers are equal exactly if the example is right.

    Attributes
    ----------
    study : Study
    names : list of str
        By number.
    given, truth : uint16 ``[n]``
        The numbers of labels and true labels, 65535 where unknown.
    classes : bool
        Whether the numbers are classes.
    """

    study: Study
    names: list[str]
    given: np.ndarray
    truth: np.ndarray
    classes: bool
    _rows: dict[tuple[int, ...], int] = field(default_factory=dict)
    _others: int = 0

    @classmethod
    def of(cls, study: Study, outputs: Tensor) -> Labels:
        """Number a study's labels; ``outputs`` say how many classes the model has."""
        n, truth = len(study), study.true_labels
        columns = outputs.shape[1] if outputs.dim() == 2 else 0
        if has_classes(study) and max(columns, _largest(study)) < _MOST:
            known = np.full(n, UNKNOWN) if truth is None else truth.numpy()
            codes = study.labels.numpy().astype(np.uint16), known.astype(np.uint16)
            return cls(study, class_names(study), *codes, classes=True)
        both = study.labels if truth is None else torch.cat([study.labels, truth])
        rows, numbers = both.reshape(len(both), -1).unique(dim=0, return_inverse=True)
        words = _words(study, rows.view(-1, *both.shape[1:]))
        if len(rows) > _MOST:
            words, numbers, rows = ["its label"], torch.zeros_like(numbers), rows[:0]
        given, known = numbers[:n].numpy(), numbers[n:].numpy()
        known = np.full(n, UNKNOWN) if truth is None else known
        table = {} if rows.is_floating_point() else _numbered(rows)
        names = [*words, *_OTHERS[_kind(study)]]
        codes = given.astype(np.uint16), known.astype(np.uint16)
        return cls(study, names, *codes, False, table, len(words))

    def said(self, examples: Tensor, predictions: Tensor, right: Tensor) -> np.ndarray:
        """The number of each prediction, uint16.

        Parameters
        ----------
        examples : int64 ``[m]``
        predictions : ``[m]`` or ``[m, ...]``
            As the task gives them.
        right : bool ``[m]``
        """
        if self.classes:
            return np.asarray(predictions.numpy(), np.uint16)
        numbers: np.ndarray = self.given[examples.numpy()].copy()
        wrong = (~right).nonzero()[:, 0]
        others = self._numbers(self.study.labels[examples[wrong]], predictions[wrong])
        # A prediction that is wrong by its margin must not bear the label's number.
        same = others == numbers[wrong.numpy()]
        numbers[wrong.numpy()] = np.where(same, self._others, others)
        return numbers

    def _numbers(self, labels: Tensor, predictions: Tensor) -> np.ndarray:
        kind = _kind(self.study)
        if kind in ("class", "set"):
            rows = predictions.reshape(len(predictions), -1).tolist()
            return np.array([self._rows.get(tuple(row), self._others) for row in rows], np.uint16)
        which = torch.zeros(len(labels), dtype=torch.long)
        if kind == "number":
            low, high = predictions < labels, predictions > labels
            which = torch.where(low, 0, torch.where(high, 1, 2))
        return (self._others + which.numpy()).astype(np.uint16)


def class_names(study: Study) -> list[str]:
    """A name for every class, up to the largest label or the last class name."""
    count = int(study.labels.max()) + 1
    if study.class_names is not None:
        count = max(count, len(study.class_names))
    return [study.class_name(label) for label in range(count)]


def _largest(study: Study) -> int:
    truth = study.labels if study.true_labels is None else study.true_labels
    return max(int(study.labels.max()), int(truth.max()), len(study.class_names or ()))


def _kind(study: Study) -> str:
    if study.labels.is_floating_point():
        return "number" if study.labels.dim() == 1 else "row"
    return "class" if study.labels.dim() == 1 else "set"


def _words(study: Study, labels: Tensor) -> list[str]:
    if hasattr(study.task, "label_words"):
        words: list[str] = study.task.label_words(labels, study.class_name)
        return words
    if has_classes(study):
        return [study.class_name(label) for label in labels.tolist()]
    about = "about " if labels.is_floating_point() else ""
    rows = labels.reshape(len(labels), -1).tolist()
    return [about + ", ".join(f"{value:g}" for value in row[:6]) for row in rows]


def _numbered(rows: Tensor) -> dict[tuple[int, ...], int]:
    return {tuple(row): number for number, row in enumerate(rows.tolist())}
