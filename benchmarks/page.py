"""docs/performance.md from the JSON that ``python -m benchmarks --out FOLDER`` wrote.

    python -m benchmarks page FOLDER

A section appears where its file does; only the layout is computed here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.tables import by_engine, cell, generic, name_of, table, words_of

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
INTRODUCTION = """\
# Performance

Written by `python -m benchmarks page` from measured figures; `python -m benchmarks --out FOLDER`
measures them again.

Times are CPU time of one thread. Competitors take turns in one process, on the same inputs, and are
checked to give the same answers. The hook loop is what one would write without memviz: a forward
hook that zeroes one unit, and one run of the whole model per unit, at the batch size that is
fastest for it. Ratios say how many times less CPU time memviz needs. They hold for this machine;
the graph engine in particular benefits from what the processor's libraries do well.
"""

SWEEP = """\
Every unit alone on every example. Some units of each layer, spread evenly over it, are measured and
extrapolated to the layer; recording and an engine's checks of itself are charged to memviz. Weights
are random. *Graph* is the default of a sweep where the model allows it; *replay* runs any model.
The error is the largest difference of a logit from the hook's on the same batch, as a share of the
largest logit."""

PEERS = """\
The cost per unit and example with other programs, as a multiple of the hook loop. Captum's
`LayerFeatureAblation` (one channel per feature) says how much the label's logit falls and nothing
about the others; it is wrong for a layer whose output the model then changes in place."""

TOGGLE = """\
One unit more or less in the ablated set, and every example's new output. Replay restarts at the
first layer that differs; memviz takes the graph instead where that is less work. *Examples in 100
ms* is how many one thread can evaluate in that time."""

GREEDY = """\
All units of the network on one example, nothing sampled. The hook loop runs one unit per pass."""

ESTIMATE = """\
Gradient × activation of every unit at once, for margin and loss, beside one plain forward and
backward pass, and beside Captum's `LayerGradientXActivation`, layer by layer."""

TRUST = """\
The estimate beside the exact sweep, on the examples the trained digits network has memorized
(shares are of examples):"""

SCALING = """\
A line through five timings over two decades; the exponent is the slope between the logarithms."""

FLOOR = """\
Multiply-adds per second of the hook loop, as a share of the fastest rate this processor reached in
the same run (one large convolution or matrix product), and the graph's rate if it is credited with
the hook loop's arithmetic. A share above 1 is arithmetic that was not done."""

SKIPPED = """\
A hook loop near its ceiling leaves nothing to gain from better kernels; the only gain left is work
not done. What the graph leaves out, all of it exact up to rounding: the layers before the unit; the
first product after it, which is a rank-one update; the products of a second layer, where a norm
keeps the change at rank one (transformers); tokens that the output never reads; pairs of unit and
example where the unit is silent; the last layers, which have a closed form; and, in 3×3
convolutions with 128 channels or more, three quarters of the multiplications (Winograd's F(4×4,
3×3), applied to the *change*, so that its coarser rounding is relative to the change and not to the
activation). The last goes below what direct convolutions after the unit would cost.

What was tried and did not pay off: Winograd below 128 channels; masks of many units stacked into
one batch (except with a handful of examples, where it is used); bfloat16 as a screen for sweeps,
since margins are needed for every pair and not only for the largest. On this processor Winograd's
36 small matrix products run at 70 to 80 GFLOP/s where a direct convolution reaches 120, so that a
quarter of the multiplications is 1.4 to 1.8 times as fast and not four times. A transformer's
linear layers already run at the ceiling, so a ViT gains only from blocks left out."""

MEMORY = """\
A sweep in a process of its own. Growth is counted from what the process held with the model, the
examples and one plain forward pass; the budget is for recorded passes."""

UNIT_MEM = """\
UnitMem of every unit in one pass over augmented copies of each image, beside plain hooks that keep
one number per unit and copy. Both do the same arithmetic; what differs is how much the process
grows beyond what it held with the network, the images and one batch. Each number the hooks keep
takes four bytes; how much they grow beyond that varies from run to run. Each method runs once, in a
process of its own; the error is that of four images, computed both ways."""

INTRODUCTIONS = {
    "ceilings": "What this processor does at most, one thread.",
    "gradient_norms": """\
Norms of every example's gradient in every layer, in milliseconds per example, beside `torch.func`'s
`vmap(grad)` at its best chunk size, a loop over examples, and one forward and backward pass of the
batch, below which no method can go. Errors are relative to float64.""",
    "activations": """\
Mean, maximum and its example for every unit over augmented copies, beside hooks that store every
activation; the gain is memory, which does not grow with the number of examples.""",
    "histograms": """\
Mutual information of all pairs of units, beside `np.bincount` and scikit-learn's
`mutual_info_score` pair by pair (a sample of pairs, multiplied up).""",
    "neighbours": """\
Exact nearest neighbours beside FAISS's flat index and scikit-learn. A bfloat16 screen with a proven
bound helps where neighbours stand out; in tight clusters the bound rules out little and the answer
comes from float32. This processor multiplies bfloat16 only about twice as fast as float32.""",
    "decode": """\
Greedy decoding of 32 tokens after 32, of small models with random weights, beside Hugging Face's
`generate` at the same batch; the heads and some neurons of a GPT of three blocks, one at a time,
beside plain hooks at their best batch; and a stream of passages that is killed after a third of its
parts and started again. What a process grows by is counted from what it held before the first
passage.""",
    "gates": """\
Hard networks of logic gates for digits, with gates drawn at random: inference on packed bits beside
the float network, and the sweep, every gate at 0 on every example and from end to end, beside a
hook loop at the same batch (six gates of each layer, multiplied up). Answers are the same, bit by
bit. The summary is the smaller ratio of the two networks.""",
    "gate_click": """\
The gate map of `demo("gates")` in JupyterLab, browser and kernel together: from the start of its
cell to the first picture, from a click on a gate to the changed figures, and from a key to the next
gate to that gate's bits traced back. The CPU time of the first picture is that of a new process
once the study is there. The empty round trip is a message to the kernel and back.""",
    "deja_vu": """\
1,000 captions looked up among 100,000 public embeddings, exactly, beside FAISS's flat index; and
the whole two-model test.""",
    "click": """\
From a click to the changed figures in JupyterLab on this machine, browser and kernel together, with
two threads: of a single unit, which the page knows from the sweep, and of a set of two, first
group and all groups, which the kernel computes. The empty round trip is a message to the kernel
and back.""",
}

Results = dict[str, dict[str, Any]]


def page(results: Results) -> str:
    """The whole page from results by file name.

    Examples
    --------
    >>> print(page({"ceilings": {"gb_per_second": 37.0}}).splitlines()[-1])
    | gb per second | 37 |
    """
    parts = [INTRODUCTION, *_machine(results)]
    for title, write in SECTIONS.items():
        blocks = list(write(results))
        if blocks:
            parts += [f"## {title}", *blocks]
    known = ("sweep-", "toggle-", "greedy", "estimate", "scaling", "memory", "unit_mem")
    for name, result in results.items():
        if not name.startswith(known):
            parts += [f"## {words_of(name).capitalize()}", INTRODUCTIONS.get(name, "")]
            parts.append(generic(result))
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _machine(results: Results) -> list[str]:
    abouts: list[dict[str, Any]] = [r["about"] for r in results.values() if "about" in r]
    if not abouts:
        return []
    dates = ", ".join(sorted({about["date"] for about in abouts}))
    commits = ", ".join(dict.fromkeys(f"`{about['commit']}`" for about in abouts))
    about = abouts[0]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return [
        f"Measured on {dates} at {commits}: {about['processor']} "
        f"({about['instructions']}, {about['cores']} cores), Python {about['python']}, {versions}."
    ]


def _sweeps(results: Results) -> list[dict[str, Any]]:
    return [result for name, result in results.items() if name.startswith("sweep-")]


def _sweep(results: Results) -> Iterable[str]:
    sweeps = _sweeps(results)
    if not sweeps:
        return
    yield SWEEP
    headers = ["model", "units × examples", "hook loop (batch)", "graph", "replay"]
    headers += ["graph against hook", "replay against hook", "largest error", "same predictions"]
    rows = []
    for r in sweeps:
        low, high = r["ratio_hook_range"]
        row = [name_of(r["model"]), f"{r['units']:,} × {r['examples']:,}"]
        row += [f"{cell(r['hook_seconds'])} s ({r['hook_batch']})", f"{cell(r['seconds'])} s"]
        row += [f"{cell(r['replay_seconds'])} s", f"×{r['ratio_hook']} ({low} to {high})"]
        exact = "0, bitwise" if r["replay_bitwise"] else cell(r["replay_max_error"])
        row += [f"×{r['replay_ratio_hook']}", f"{cell(r['max_error'])} (replay {exact})"]
        same = r["equal_predictions"] and r["replay_equal_predictions"]
        rows.append([*row, same])
    yield table(headers, rows)
    for r in sweeps:
        if "whole" in r:
            seconds = ", ".join(f"{words_of(key)} {cell(n)}" for key, n in r["whole"].items())
            yield f"One sweep of the {name_of(r['model'])} from end to end: {seconds}."
    for r in sweeps:
        yield f"### {name_of(r['model'])}, layer by layer"
        columns = ["units", "hook_seconds", "auto_seconds", "replay_seconds"]
        columns += ["auto_ratio_hook", "replay_ratio_hook"]
        words = ["units", "hook, s", "graph, s", "replay, s", "graph against hook", "replay"]
        rows = [[f"`{name}`", *(row[key] for key in columns)] for name, row in r["layers"].items()]
        yield table(["layer", *words], rows)


def _peers(results: Results) -> Iterable[str]:
    rows = []
    for r in _sweeps(results):
        note = ", ".join(f"`{name}`" for name in r["captum_differs_in"])
        captum = r["captum_seconds"] / r["hook_seconds"]
        rows.append([name_of(r["model"]), "Captum", f"{captum:.3g}", r["captum_max_error"], note])
        for peer, facts in r["others"].items():
            if isinstance(facts, Mapping):
                cost, error = facts["cost_of_hook"], facts["max_error"]
                rows.append([name_of(r["model"]), f"{peer} {facts['version']}", cost, error, ""])
            else:
                rows.append([name_of(r["model"]), peer, facts, "", ""])
    if rows:
        yield PEERS
        headers = ["model", "program", "cost, hook = 1", "largest error", "differs in"]
        yield table(headers, rows)


def _toggle(results: Results) -> Iterable[str]:
    for name, r in results.items():
        if name.startswith("toggle-"):
            for words in ("one_layer", "every_layer"):
                rows = {f"`{layer}`": row for layer, row in r[words].items()}
                title = f"{name_of(r['model'])}, units of {words_of(words)} ablated"
                yield f"### {title}, {r['examples']:,} examples"
                yield generic(rows)


def _toggles(results: Results) -> Iterable[str]:
    tables = list(_toggle(results))
    return [TOGGLE, *tables] if tables else []


def _one(name: str, words: str) -> Callable[[Results], Iterable[str]]:
    def write(results: Results) -> Iterable[str]:
        if name in results:
            yield words
            left = {k: v for k, v in results[name].items() if k not in ("benchmark", "digits")}
            yield by_engine(left)
            if "digits" in results[name]:
                yield TRUST
                yield generic(results[name]["digits"])

    return write


def _floor(results: Results) -> Iterable[str]:
    rows = []
    for r in _sweeps(results):
        speeds = [speed for name, speed in r["ceilings"].items() if "_f32_" in name]
        if not speeds:
            continue
        top = max(speeds)
        credited = r["gflop_per_example"] * r["unit_examples_per_second"]
        hook = r["hook_gflop_per_second"]
        row = [name_of(r["model"]), cell(top), cell(hook), f"{hook / top:.0%}"]
        rows.append([*row, f"{credited:,.0f}", f"{credited / top:.2g}"])
    if rows:
        headers = ["model", "ceiling, GFLOP/s", "hook loop", "share of it", "graph, credited"]
        yield FLOOR
        yield table([*headers, "share of it"], rows)
        yield SKIPPED


SECTIONS: dict[str, Callable[[Results], Iterable[str]]] = {
    "A whole sweep": _sweep,
    "The floor": _floor,
    "Other programs": _peers,
    "A click": _toggles,
    "One step of a greedy search": _one("greedy", GREEDY),
    "The estimate": _one("estimate", ESTIMATE),
    "Growth with examples, units and depth": _one("scaling", SCALING),
    "Memory": _one("memory", MEMORY),
    "UnitMem": _one("unit_mem", UNIT_MEM),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the folder and write the page."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks page", description=__doc__)
    arguments.add_argument("folder", type=Path, help="where the JSON files are")
    arguments.add_argument("--out", type=Path, default=PAGE)
    chosen = arguments.parse_args(argv)
    from benchmarks.__main__ import EVERYTHING

    order = {name: place for place, name in enumerate(EVERYTHING)}
    files = sorted(chosen.folder.glob("*.json"), key=lambda file: order.get(file.stem, len(order)))
    if not files:
        raise SystemExit(f"no JSON in {chosen.folder}; run `python -m benchmarks --out FOLDER`.")
    results = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    chosen.out.write_text(page(results), encoding="utf-8")
    print(f"{chosen.out.name} from {len(results)} results")


if __name__ == "__main__":
    main()
