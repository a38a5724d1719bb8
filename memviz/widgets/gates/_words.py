"""What the gate map says: bits of the input, settings and figures in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from memviz.engine.circuits import CircuitReading, CircuitStudy
from memviz.engine.sets import percent
from memviz.models.logic_gates import GATES, Wiring

SAID = {
    "zero": "set to 0",
    "constant 1": "set to 1",
    "input a": "set to input a",
    "input b": "set to input b",
    "negation": "negated",
}


def sentence(circuits: CircuitStudy, now: CircuitReading) -> str:
    """What the gates that are set do to each group, in one sentence."""
    settings, circuit = now.settings, circuits.circuit
    groups = [(name, circuits.before.groups[name], after) for name, after in now.groups.items()]
    if not settings:
        parts = [f"{name} {percent(group.accuracy)}" for name, _, group in groups]
        return f"Every gate is as trained: {', '.join(parts)}. Choose a gate and set it."
    if len(settings) == 1:
        [(row, setting)] = settings.items()
        words = circuit.words_for(row)
        parts = [
            f"{name} {before.correct} → {after.correct} of {after.n}"
            for name, before, after in groups
            if before.correct != after.correct
        ]
        same = [name for name, before, after in groups if before.correct == after.correct]
        parts += [f"{_joined(same)} unchanged"] if same else []
        return f"{words[0].upper()}{words[1:]} {SAID[setting]}: {', '.join(parts)}."
    live = int(circuit.live.sum())
    parts = [
        f"{name} {percent(before.accuracy)} → {percent(after.accuracy)}"
        for name, before, after in groups
    ]
    return f"{len(settings):,} of {live:,} live gates set: {', '.join(parts)}."


def gate_words(number: int) -> str:
    """Which of the sixteen a gate is, in lower case.

    Examples
    --------
    >>> gate_words(2), gate_words(15)
    ('a and not b', 'always 1')
    """
    names = {0: "always 0", 15: "always 1"}
    return names.get(number, GATES[number].replace("A", "a").replace("B", "b"))


def alone_words(setting: str, lost: Mapping[str, float]) -> str:
    """What a gate takes from the first two groups, set so while all others are as trained.

    Examples
    --------
    >>> alone_words("zero", {"memorized": 1.21, "clean": -0.1})
    'Alone, set to 0, it takes 1.2 votes from memorized and gives .1 to clean (mean margin).'
    """
    parts: list[str] = []
    for name, votes in list(lost.items())[:2]:
        verb, of = ("gives", "to") if votes < 0 else ("takes", "from")
        parts.append(f"{verb} {_votes(votes)}{'' if parts else ' votes'} {of} {name}")
    return f"Alone, {SAID[setting]}, it {' and '.join(parts)} (mean margin)."


def _votes(votes: float) -> str:
    size = abs(votes)
    words = "0" if size == 0 else f"{size:.1f}" if size >= 0.095 else f"{size:.2g}"
    return words.removeprefix("0") or "0"


def random_words(circuit: Wiring, units: int, draws: int, of: int, better: bool) -> str:
    """What the null draws, and what it never does."""
    if not draws:
        return "All live gates of these layers are set: no random ones to compare with."
    each = ", each set to the constant that takes more" if better else ""
    some = f"{draws:,}" + (f" of {of:,}" if draws < of else "")
    gates = f"{units:,} random live gate{'s' if units > 1 else ''}"
    words = f"{gates} of the same layers{each}, {some} draw{'s' if of > 1 else ''}."
    dead = int((~circuit.live).sum())
    if not dead:
        return words
    never = (
        "is never drawn: nothing reads it" if dead == 1 else "are never drawn: nothing reads them"
    )
    return f"{words} The {dead:,} dead gate{'s' if dead > 1 else ''} {never}."


def truly_words(turned: Mapping[str, tuple[int, int]]) -> str:
    """How many of the examples that turned wrong now get their true label, by group."""
    return " ".join(
        f"{true:,} of the {wrong:,} {name} examples that turned wrong now get their true label."
        for name, (true, wrong) in turned.items()
        if true
    )


def bit_words(circuit: Wiring, shape: Sequence[int], bit: int) -> str:
    """An input bit: where it comes from, and above what it is 1; a line each."""
    feature, above = int(circuit.features[bit]), float(circuit.above[bit])
    where = f"input {feature}"
    if len(shape) == 3:
        channel, at = divmod(feature, shape[1] * shape[2])
        where = "row {}, col {}".format(*divmod(at, shape[2]))
        where += f", ch {channel}" if shape[0] > 1 else ""
    if math.isnan(above):
        return where
    return f"{where}\nabove {above:.2g}".replace(" 0.", " .").replace(" -0.", " −.")


def _joined(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
