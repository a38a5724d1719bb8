"""Hard networks of logic gates, swept on packed bits: every gate alone, exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from memviz.engine.record import Intervention, Replay, split
from memviz.models.logic_gates import INTERVENTIONS, Circuit, PackedSweep
from memviz.units import Unit, UnitSet

_WORD = 64  # examples
_SHARE = 4  # of the memory, for the bits of all gates
_TIMES = 2  # a circuit takes some 80 bytes a gate, and a recorded example half of that
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class Packed:
    """Outputs of a replay's examples with single gates replaced, by ``PackedSweep``.

    Parameters
    ----------
    replay : Replay
    how : Intervention
    circuit : Circuit
        That of the replay's model.
    """

    def __init__(self, replay: Replay, how: Intervention, circuit: Circuit) -> None:
        self.replay, self.how, self.circuit = replay, how, circuit
        self._known: tuple[Tensor, PackedSweep] | None = None
        self._agreed: set[str] = set()

    @classmethod
    def of(cls, replay: Replay, how: Intervention) -> Packed | None:
        """None if a model is no circuit of gates, or an intervention none of gates."""
        study, model = replay.own_study, replay.own_study.model
        # While this thread ablates units, the model itself runs, and is more than its circuit.
        plain = model is not replay.study.model and not any(
            getattr(module, name) for module in model.modules() for name in _HOOKS
        )
        exact = replay.clean.dtype in (torch.float32, torch.float64)
        if not plain or not exact or str(how) not in INTERVENTIONS:
            return None
        first = study.batch(replay.examples[:1])
        known = min(2, len(replay.examples))
        large = _TIMES * replay.trace.bytes // known > replay.memory
        if not isinstance(model, nn.Sequential) or not isinstance(first, Tensor) or large:
            return None
        try:
            return cls(replay, how, Circuit(model, first))
        except ValueError:
            return None

    def disagreement(self, layers: Iterable[str]) -> str:
        """How far the answers of some layers are from those of plain hooks; empty if they agree."""
        left = [name for name in dict.fromkeys(layers) if name not in self._agreed]
        known = self._sweep(self.replay.chunk(0)) if left else None
        for name in left:
            assert known is not None
            why = self.replay.disagreement(0, [name], self.how, self._answer(known))
            if why:
                return f"packed bits are {why}"
            self._agreed.add(name)
        return ""

    def chunks(self) -> list[Tensor]:
        """Positions of examples that are run at once, int64: as many as fit in memory."""
        words = max(1, self.replay.memory // (_SHARE * 8 * self.circuit.values))
        return split(len(self.replay.examples), _WORD * words)

    def outputs(self, positions: Tensor, units: Sequence[Unit]) -> Tensor:
        """Outputs of some examples with each unit alone replaced, ``[units, positions, ...]``."""
        if self._known is None or not torch.equal(self._known[0], positions):
            self._known = positions, self._sweep(positions)
        return self._outputs(self._known[1], units)

    def _answer(self, known: PackedSweep) -> Callable[[UnitSet], Tensor]:
        return lambda units: self._outputs(known, list(units))[0]

    def _outputs(self, known: PackedSweep, units: Sequence[Unit]) -> Tensor:
        layers: dict[str, list[int]] = {}
        for row, unit in enumerate(units):
            layers.setdefault(unit.layer, []).append(row)
        votes = known.votes.new_zeros(len(units), *known.votes.shape)
        for name, rows in layers.items():
            votes[rows] = known.ablated(name, [units[row].index for row in rows], str(self.how))
        clean = self.replay.clean
        logits = votes.to(clean.device, clean.dtype) / known.tau
        outputs = self.replay.study.task.outputs(logits.flatten(0, 1))
        return outputs.view(*logits.shape[:2], *outputs.shape[1:])

    def _sweep(self, positions: Tensor) -> PackedSweep:
        inputs = self.replay.study.batch(self.replay.examples[positions])
        assert isinstance(inputs, Tensor)
        return PackedSweep(self.circuit, inputs)
