"""Messages of the gate map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from memviz.engine.circuits import CircuitReading, CircuitStudy, GroupVotes, Trace, Traced
from memviz.models.logic_gates import GateLayer, Wiring
from memviz.widgets.core import Message, pack

from ._words import alone_words, bit_words, gate_words, random_words, sentence, truly_words

_INPUT, _NOTHING = 2**31, 2**32 - 1  # a wire from an input bit, and one from outside the image
_DEPTH = 2  # gates that a trace goes back


def circuit_message(circuits: CircuitStudy) -> Message:
    """Everything about the gates that never changes."""
    circuit, study = circuits.circuit, circuits.study
    assert isinstance(study.inputs, torch.Tensor)
    content = {
        "type": "gates",
        "layers": [layer.title for layer in circuit.layers],
        "classes": circuit.classes,
        "votes": circuit.layers[-1].gates // circuit.classes,
        "names": [gate_words(number) for number in range(16)],
        "image": list(study.inputs.shape[1:]),
    }
    return pack(
        content,
        number=np.concatenate([layer.numbers for layer in circuit.layers]).astype(np.uint8),
        weight=np.concatenate([layer.weights for layer in circuit.layers]),
        feature=circuit.features.astype(np.uint32),
        above=circuit.above.astype(np.float32),
        live=circuit.live.astype(np.uint8),
        a=np.concatenate([_wires(circuit, layer, 0) for layer in circuit.layers]),
        b=np.concatenate([_wires(circuit, layer, 1) for layer in circuit.layers]),
    )


def _wires(circuit: Wiring, layer: GateLayer, side: int) -> np.ndarray:
    """What one input of every gate is read from, at the middle place of a convolution."""
    reads = layer.reads[side, :, layer.places // 2, 0]
    if layer.before < 0:
        found = np.where(reads < 0, _NOTHING, _INPUT + reads)
    else:
        before = circuit.layers[layer.before]
        found = np.where(reads < 0, _NOTHING, before.start + reads // before.places)
    return np.asarray(found, np.uint32)


def reading_message(circuits: CircuitStudy, now: CircuitReading, version: int) -> Message:
    """Accuracy and median vote margin of each group, before and after."""
    before, study = circuits.before, circuits.study
    lost, won = before.right & ~now.right, ~before.right & now.right
    truly = torch.zeros_like(lost)
    if study.true_labels is not None:
        truly = (now.predictions == study.true_labels) & (study.true_labels != study.labels)
    groups, turned = [], {}
    for name, after in now.groups.items():
        mask = study.groups[name]
        counts = {
            "right_to_wrong": int((mask & lost).sum()),
            "wrong_to_right": int((mask & won).sum()),
            "now_true": int((mask & lost & truly).sum()),
        }
        turned[name] = counts["now_true"], counts["right_to_wrong"]
        sides = {"before": vars(before.groups[name]), "after": vars(after)}
        groups.append({"name": name, "n": after.n, **sides, **counts})
    content = {
        "type": "readout",
        "version": version,
        "sentence": sentence(circuits, now),
        "units": len(now.settings),
        "of": int(circuits.circuit.live.sum()),
        "groups": groups,
        "truly": truly_words(turned),
    }
    change = (now.margins - before.margins).numpy().astype(np.float32)
    said = (reading.predictions.numpy().astype(np.uint16) for reading in (before, now))
    return pack(content, **dict(zip(("before", "after"), said, strict=True)), change=change)


def random_message(
    circuit: Wiring,
    draws: Sequence[Mapping[str, GroupVotes]],
    version: int,
    units: int,
    of: int,
    better: bool,
) -> Message:
    """The null so far: mean and central 95 % range of the random draws."""
    groups = []
    for name in draws[0] if draws else ():
        accuracy = np.array([draw[name].accuracy for draw in draws])
        low, high = np.percentile(accuracy, [2.5, 97.5])
        margin = float(np.mean([draw[name].margin for draw in draws]))
        group = {"name": name, "accuracy": float(accuracy.mean()), "margin": margin}
        groups.append(group | {"low": float(low), "high": float(high)})
    words = random_words(circuit, units, len(draws), of, better)
    counts = {"version": version, "units": units, "draws": len(draws), "of": of}
    return Message({"type": "random", **counts, "words": words, "groups": groups}, [])


def gate_message(
    circuits: CircuitStudy, row: int, settings: Mapping[int, str], better: str, version: int
) -> Message:
    """How often the chosen gate reads each pair of bits, and what it does alone."""
    table = circuits.truth_table(row, settings)
    content = {"type": "gate", "row": row, "version": version}
    shares = {name: values.tolist() for name, values in table.shares.items()}
    words = {setting: alone_words(setting, lost) for setting, lost in table.lost.items()}
    words["better"] = words[better]
    return Message({**content, "shares": shares, "alone": words}, [])


def trace_message(
    circuits: CircuitStudy,
    found: Trace,
    now: CircuitReading,
    example: int,
    row: int | None,
    version: int,
) -> Message:
    """One example's bits and votes, and where the chosen gate's bit comes from."""
    content: dict[str, Any] = {
        "type": "gate_trace",
        "index": example,
        "version": version,
        "row": row,
        "votes_before": circuits.before.votes[example].tolist(),
        "votes": now.votes[example].tolist(),
        "said": int(now.predictions[example]),
        "tree": None if row is None else _node(circuits, found.gate(row, _DEPTH)),
    }
    share = np.concatenate([bits.mean(1) for bits in found.layers]).astype(np.float32)
    return pack(content, share=share, inputs=found.inputs)


def _node(circuits: CircuitStudy, traced: Traced) -> dict[str, Any]:
    circuit, inputs = circuits.circuit, circuits.study.inputs
    assert isinstance(inputs, torch.Tensor)
    node: dict[str, Any] = {"row": traced.row, "bit": traced.bit}
    if traced.row is None:
        shape = tuple(inputs.shape[1:])
        words = "outside\nthe image"
        if traced.number is not None:
            words = bit_words(circuit, shape, traced.number)
        return {**node, "words": words, "reads": []}
    layer = circuit.layers[circuit.place(traced.row)[0]]
    words = f"{layer.title} · {traced.row - layer.start}"
    if traced.number is not None:
        words += f"\n{gate_words(traced.number)}"
    if layer.places > 1:
        words += " at {}, {}".format(*divmod(traced.place, layer.columns))
    return {**node, "words": words, "reads": [_node(circuits, part) for part in traced.reads]}
