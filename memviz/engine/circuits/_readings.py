"""What a network of gates says of a study's examples, with some gates set to something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from memviz.checks import coded, quoted
from memviz.models.logic_gates import SETTINGS, GroupSum, PackedSweep, Wiring
from memviz.restored import undisturbed
from memviz.statistics import wilson
from memviz.study import Study, check_classes

_FEW = 64  # examples on which the circuit is compared with the model
Settings = Mapping[int, str]  # row of a gate in the circuit → what it is set to


@dataclass(frozen=True)
class GroupVotes:
    """One group: accuracy with Wilson's 95 % interval, and the vote margins' median.

    A vote margin is the label's votes minus the most that another class has.
    """

    n: int
    correct: int
    accuracy: float
    low: float
    high: float
    margin: float

    @classmethod
    def of(cls, right: Tensor, margins: Tensor) -> GroupVotes:
        """Summarize a group's examples, bool and int64 ``[n]``."""
        n, correct = len(right), int(right.sum())
        low, high = wilson(correct, n)
        # Half-way between the middle two of an even number.
        return cls(n, correct, correct / n, low, high, float(np.median(margins.numpy())))


@dataclass(frozen=True, eq=False)
class CircuitReading:
    """Votes of every example with these settings.

    Attributes
    ----------
    settings : dict of row to setting
    votes : int64 ``[n, classes]``
    predictions, margins : int64 ``[n]``
        The class with the most votes, of equal ones the first; and the label's votes minus the
        most that another class has.
    right : bool ``[n]``
    groups : dict of name to GroupVotes
    """

    settings: dict[int, str]
    votes: Tensor
    predictions: Tensor
    margins: Tensor
    right: Tensor
    groups: dict[str, GroupVotes]


@dataclass(frozen=True)
class TruthTable:
    """How often a gate reads each pair of bits, and what setting it alone does.

    Attributes
    ----------
    shares : dict of group to float64 ``[4]``
        Of its examples, and places, that read (0, 0), (0, 1), (1, 0) and (1, 1).
    lost : dict of setting to dict of group to float
        Mean vote margin that the group loses with this gate alone set so.
    """

    shares: dict[str, np.ndarray]
    lost: dict[str, dict[str, float]]


class CircuitStudy:
    """A study whose model is a hard network of gates, answered on packed bits.

    Parameters
    ----------
    study : Study
        Its model is an ``nn.Sequential`` as :class:`memviz.models.logic_gates.Wiring` reads.

    Attributes
    ----------
    circuit : Wiring
    before : CircuitReading
        With every gate as it was trained.

    Raises
    ------
    TypeError, ValueError
        If the model is no such network, is in training mode, or the labels are no classes of it.

    Examples
    --------
    >>> import torch
    >>> from memviz.models.logic_gates import logic_dense_net
    >>> model = logic_dense_net(4, [8, 6], 3).eval()
    >>> study = Study(model, torch.rand(9, 4), torch.arange(9) % 3, {"test": range(9)})
    >>> circuits = CircuitStudy(study)
    >>> circuits.read({13: "constant 1"}).votes[:, 2].min().item()
    1
    """

    def __init__(self, study: Study) -> None:
        model = study.model
        if not isinstance(model, nn.Sequential) or not isinstance(study.inputs, Tensor):
            raise TypeError(
                f"the model is of type {type(model).__name__}; give a study of a network of logic "
                "gates, as memviz.models.logic_gates.logic_dense_net makes it."
            )
        check_classes(study, "a network of gates")
        self.study = study
        self.circuit = Wiring(model, tuple(study.inputs.shape[1:]))
        known = self.circuit.classes
        if int(study.labels.max()) >= known:
            raise ValueError(
                coded(
                    "E18",
                    f"the model votes for {known} classes, 0 to {known - 1}, and the labels hold "
                    f"{quoted(int(study.labels.max()))}; give labels from 0 to {known - 1}.",
                )
            )
        self.words = self.circuit.words(study.inputs.cpu())
        self._check_same(model)
        self._alone: PackedSweep | None = None
        self.before = self.read({})

    def _check_same(self, model: nn.Sequential) -> None:
        """Refuse a model that is more than its circuit, as one with hooks may be.

        Compared are 64 examples spread over the study.
        """
        few = torch.linspace(0, len(self.study) - 1, min(_FEW, len(self.study))).long()
        calm = undisturbed(random=True, counting=model)
        with calm, calm:
            outputs = self.study.task.outputs(self.study.call(self.study.batch(few))())
        said = self.circuit.votes(self.words, len(self.study))[few]
        counts = next(layer for layer in model if isinstance(layer, GroupSum))
        if not torch.equal(counts.votes(outputs.cpu()), said):
            raise ValueError(
                "the model's outputs are not the votes of its gates; take away what else changes "
                "them, such as a hook."
            )

    def read(self, settings: Settings) -> CircuitReading:
        """Votes of every example with some gates set to something else.

        Parameters
        ----------
        settings : mapping of row to a key of ``memviz.models.logic_gates.SETTINGS``
        """
        study, circuit = self.study, self.circuit
        votes = circuit.votes(self.words, len(study), circuit.numbers(settings))
        predictions, margins = votes.argmax(1), self._margins(votes)
        right = predictions == study.labels
        groups = {
            name: GroupVotes.of(right[mask], margins[mask])
            for name, mask in study.groups.items()
            if mask.any()
        }
        return CircuitReading(dict(settings), votes, predictions, margins, right, groups)

    def lost_alone(self, place: int, gates: Sequence[int], setting: str) -> Tensor:
        """Votes of margin that each example loses with each of these gates alone set so.

        Parameters
        ----------
        place : int
            Of their layer in the circuit.
        gates : sequence of int
        setting : str

        Returns
        -------
        int64 ``[gates, n]``
        """
        if self._alone is None:
            assert isinstance(self.study.inputs, Tensor)
            self._alone = PackedSweep(self.study.model, self.study.inputs.cpu())
        votes = self._alone.ablated(self.circuit.layers[place].name, gates, setting)
        return self.before.margins - self._margins(votes)

    def _margins(self, votes: Tensor) -> Tensor:
        """The label's votes minus the most that another class has, along the last axis."""
        labels = self.study.labels[:, None].expand(*votes.shape[:-1], 1)
        others = votes.scatter(-1, labels, -1).amax(-1)
        return votes.gather(-1, labels)[..., 0] - others

    def truth_table(self, row: int, settings: Settings) -> TruthTable:
        """How often a gate reads each pair of bits with these settings, by group."""
        n = len(self.study)
        a, b = self.circuit.inputs_of(row, self.words, n, self.circuit.numbers(settings))
        pairs, shares = 2 * a + b, {}
        for name in self.before.groups:
            of_group = pairs[self.study.groups[name].numpy()]
            shares[name] = np.bincount(of_group.reshape(-1), minlength=4) / of_group.size
        lost, (place, gate) = {}, self.circuit.place(row)
        for setting in SETTINGS:
            change = self.lost_alone(place, [gate], setting)[0].double()
            lost[setting] = {
                name: float(change[self.study.groups[name]].mean()) for name in self.before.groups
            }
        return TruthTable(shares, lost)
