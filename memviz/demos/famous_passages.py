"""Famous passages in a pretrained language model: what it recites, and which units carry one.

``python -m memviz.demos.famous_passages --model FOLDER --passages FILE`` reads a model of Hugging
Face (``--gguf-file`` names a GGUF file in the folder) and a file of JSON lines whose entry ``all``
is a passage, such as the 104 that Chang et al. (2024) collected for GPT-2 XL. It measures

- the memorization score of the passages (prompt 16, continuation 16), beside what the same answers
  score on the continuation of another passage, and beside a constant rate per token;
- the prompt's length against what is recited: the continuation stays the same, and the prompt is
  the last tokens before it (Carlini et al. 2022);
- for the passage with the largest margin: every head exactly, the neurons by an estimate and those
  at its top exactly, then the best units ablated together, beside random units of the same layers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memviz.engine.record import layers
from memviz.engine.sets import ablate, random_units
from memviz.engine.sweep import estimate, sweep
from memviz.models.hugging_face import causal_lm
from memviz.probes.extraction import (
    Extraction,
    extract,
    recited_by_prompt,
    teacher_forced,
    token_ids,
)
from memviz.statistics import wilson
from memviz.study import Study
from memviz.tasks import Language
from memviz.units import UnitSet

PROMPT, CONTINUATION = 16, 16
PROMPTS = (1, 2, 4, 8, 16, 32)
OTHERS = 7  # passages that are not recited, on which ablations are also judged
NEURONS = 100  # from the top of the estimate, swept exactly
COUNTS = (1, 2, 4, 8, 16)
DRAWS = 2
TOLD = 6  # units named with what each takes from the margin


def measure(model: Any, tokenizer: Any, texts: Sequence[str]) -> dict[str, Any]:
    """All the figures of some passages, as one table.

    Parameters
    ----------
    model, tokenizer
        As :func:`~memviz.models.hugging_face.causal_lm` returns them.
    texts : sequence of str

    Raises
    ------
    ValueError
        If fewer than two passages have ``PROMPT + CONTINUATION`` tokens.
    """
    ids = token_ids(tokenizer, texts)
    long = [row for row in ids if len(row) >= PROMPT + CONTINUATION]
    if len(long) < 2:
        raise ValueError(
            f"{len(long)} passages have {PROMPT + CONTINUATION} tokens; give two or more."
        )
    return {
        "passages": len(texts),
        "scores": _scores(model, long),
        "prompt_lengths": _curve(model, ids),
        "carriers": _carriers(model, tokenizer, long),
    }


def _scores(model: Any, passages: list[list[int]]) -> dict[str, Any]:
    result = extract(model, passages, PROMPT, CONTINUATION, batch_size=16, progress=False)
    forced = teacher_forced(model, passages, PROMPT, CONTINUATION, batch_size=16, progress=False)
    true = result.passages[:, PROMPT:]
    return {
        "n": len(result),
        "mean_score": float(result.scores.mean()),
        "on_another_passage": float((result.said == true.roll(1, 0)).double().mean()),
        **_recited(result),
        "recited_by_constant_rate": float(result.constant_rate[-1]),
        "right_after_the_true_tokens": float(forced.correct.double().mean()),
        "recited_after_the_true_tokens": int(forced.memorized.sum()),
    }


def _recited(result: Extraction) -> dict[str, Any]:
    count = int(result.memorized.sum())
    return {"recited": count, "recited_95": list(wilson(count, len(result)))}


def _curve(model: Any, ids: list[list[int]]) -> list[dict[str, Any]]:
    rows = [row for row in ids if len(row) >= max(PROMPTS) + CONTINUATION]
    if not rows:
        return []
    table = recited_by_prompt(model, rows, CONTINUATION, PROMPTS, batch_size=16, progress=False)
    return [
        {
            "prompt": prompt,
            "n": int(row["n"]),
            "mean_score": float(row["score"]),
            "on_another_passage": float(row["another_score"]),
            "recited": int(row["recited"]),
            "recited_95": [float(row["low"]), float(row["high"])],
        }
        for prompt, row in zip(PROMPTS, table.to_dict("records"), strict=True)
    ]


def _carriers(model: Any, tokenizer: Any, passages: list[list[int]]) -> dict[str, Any]:
    tokens = torch.tensor([row[: PROMPT + CONTINUATION] for row in passages])
    margins = teacher_forced(
        model, tokens, PROMPT, CONTINUATION, batch_size=16, progress=False
    ).margins
    order = margins.argsort(descending=True)
    tokens = torch.cat([tokens[order[:1]], tokens[order[1:][margins[order[1:]] <= 0][:OTHERS]]])
    study = Study(
        model,
        {"input_ids": tokens},
        tokens[:, PROMPT:],
        {"memorized": torch.tensor([0]), "clean": torch.arange(1, len(tokens))},
        task=Language(PROMPT, CONTINUATION, tokenizer=tokenizer),
    )
    found: dict[str, Any] = {
        "prompt": tokenizer.decode(tokens[0, :PROMPT].tolist()),
        "continuation": tokenizer.decode(tokens[0, PROMPT:].tolist()),
        "margin": float(margins[order[0]]),
        "others": len(tokens) - 1,
    }
    for kind, exactly in (("heads", None), ("neurons", NEURONS)):
        sizes = {layer.name: layer.units for layer in layers(study) if layer.kind == kind}
        if sizes:
            every = UnitSet({name: range(count) for name, count in sizes.items()})
            found[kind] = _carried_by(study, every, exactly)
    return found


def _carried_by(study: Study, units: UnitSet, exactly: int | None) -> dict[str, Any]:
    """Units ordered by the margin that the passage loses without each alone."""
    if exactly is not None:
        drops = estimate(study, units, examples=[0]).of_example(0)
        units = drops.top(min(exactly, len(units)))
    swept = sweep(study, units, examples=[0], progress=False).of_example(0)
    assert swept.units is not None
    order = np.argsort(-swept.values, kind="stable")
    best = [swept.units[place] for place in order]
    known = [layer for layer in layers(study) if layer.name in units.layers]
    clean = _judged(study)
    rows = []
    for count in (count for count in COUNTS if count <= len(best)):
        chosen = UnitSet(best[:count])
        random = [_judged(study, random_units(known, chosen, draw)) for draw in range(DRAWS)]
        mine = _judged(study, chosen)
        rows.append(
            {
                "units": len(chosen),
                "matched": mine["matched"],
                "matched_random": [each["matched"] for each in random],
                "perplexity_ratio": mine["perplexity"] / clean["perplexity"],
                "perplexity_ratio_random": float(
                    np.mean([each["perplexity"] / clean["perplexity"] for each in random])
                ),
            }
        )
    return {
        "swept": len(units),
        "that_break_it_alone": int((swept.values >= _margin(study)).sum()),
        "largest_drops": {
            str(best[k]): float(swept.values[order[k]]) for k in range(min(TOLD, len(best)))
        },
        "together": rows,
    }


def _margin(study: Study) -> float:
    return float(
        teacher_forced(
            study.model, _tokens(study)[:1], PROMPT, CONTINUATION, progress=False
        ).margins[0]
    )


def _tokens(study: Study) -> torch.Tensor:
    inputs = study.inputs
    assert isinstance(inputs, Mapping)
    return inputs["input_ids"]


def _judged(study: Study, units: UnitSet | None = None) -> dict[str, Any]:
    """Tokens of the passage before its first error, and the perplexity of the others."""
    tokens = _tokens(study)
    with ablate(study, units or UnitSet()):
        said = extract(study.model, tokens[:1], PROMPT, CONTINUATION, progress=False)
        others = teacher_forced(study.model, tokens[1:], PROMPT, CONTINUATION, progress=False)
    return {
        "matched": int(said.matched[0]),
        "perplexity": float(others.log_likelihoods.mean().neg().exp()),
    }


def read_passages(path: Path) -> list[str]:
    """The entry ``all`` of each line of a file of JSON lines.

    Raises
    ------
    ValueError
        If a line has no such text.
    """
    texts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            texts.append(str(json.loads(line)["all"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} of {str(path)!r} has no entry 'all'.") from error
    return texts


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="memviz.demos.famous_passages")
    parser.add_argument("--model", required=True, help="a folder, or a model downloaded before")
    parser.add_argument("--gguf-file", help="a GGUF file in the folder")
    parser.add_argument("--passages", type=Path, required=True, metavar="FILE")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    chosen = parser.parse_args(argv)
    model, tokenizer = causal_lm(chosen.model, gguf_file=chosen.gguf_file)
    result = measure(model, tokenizer, read_passages(chosen.passages))
    sys.stdout.write(json.dumps(result, indent=None if chosen.json else 1) + "\n")


if __name__ == "__main__":
    main()
