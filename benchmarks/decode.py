"""Language models: decoding beside Hugging Face's generate, a sweep beside hooks, a long stream.

    python -m benchmarks decode

Decoding is greedy, 32 tokens after 32, at the same batch and without an end token, and must give
the same tokens. The sweep is of a GPT as large as the largest ready one: its heads and some neurons
of each block, spread evenly; recording is charged to memviz in full although the hook loop would
pay for eight times as many. The stream is killed (SIGKILL) after a third of its parts and started
again.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import memviz as mv
from benchmarks.report import about, parser, show, significant
from benchmarks.samples import spread
from benchmarks.timing import Timing, in_turn, one_thread, peak_memory
from memviz.models.gpt import GPT
from memviz.probes.extraction import extract, extract_stream

PROMPT, NEW, VOCABULARY, WIDTH, BLOCKS, HEADS = 32, 32, 1024, 96, 3, 4
BATCHES = (16, 32, 64, 128)


def passages(n: int, seed: int = 0, vocabulary: int = VOCABULARY) -> Tensor:
    """Random token ids, int64 ``[n, PROMPT + NEW]``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary, (n, PROMPT + NEW), generator=generator)


def hugging_face(family: str) -> Any:
    """A small model with random weights of a kind that is decoded a lot."""
    import transformers as hf

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        if family == "gpt2":
            sizes = {"n_embd": WIDTH, "n_layer": BLOCKS, "n_head": HEADS, "n_positions": 64}
            sizes |= {"bos_token_id": 0, "eos_token_id": 0}
            config = hf.GPT2Config(vocab_size=VOCABULARY, initializer_range=0.2, **sizes)
            return hf.GPT2LMHeadModel(config).eval()
        wide = {"hidden_size": WIDTH, "intermediate_size": 256, "num_hidden_layers": BLOCKS}
        heads = {"num_attention_heads": HEADS, "num_key_value_heads": 2}
        return hf.LlamaForCausalLM(
            hf.LlamaConfig(vocab_size=VOCABULARY, initializer_range=0.2, **wide, **heads)
        ).eval()


def decoding(family: str, batch: int, repeats: int) -> dict[str, Any]:
    """Both ways to decode one batch, in turn, and whether they say the same."""
    model, tokens = hugging_face(family), passages(batch)

    def theirs() -> Tensor:
        made: Tensor = model.generate(
            tokens[:, :PROMPT],
            attention_mask=torch.ones(batch, PROMPT, dtype=torch.int64),
            **{"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False},
            **{"eos_token_id": None, "pad_token_id": 0},
        )
        return made[:, PROMPT:]

    def ours() -> Tensor:
        return extract(model, tokens, PROMPT, NEW, batch_size=batch, progress=False).said

    equal = torch.equal(theirs(), ours())
    times = in_turn({"generate": theirs, "extract": ours}, repeats)
    seconds = {name: timing.median for name, timing in times.items()}
    return {
        "batch": batch,
        "equal_tokens": equal,
        "generate_tokens_per_second": significant(batch * NEW / seconds["generate"]),
        "extract_tokens_per_second": significant(batch * NEW / seconds["extract"]),
        "ratio": significant(seconds["generate"] / seconds["extract"]),
    }


@contextmanager
def off(model: GPT, unit: mv.Unit) -> Iterator[None]:
    """A plain hook that zeroes a head before the projection, or a neuron before its GELU."""
    block: Any = model.blocks[int(unit.layer.split(".")[1])]
    if unit.layer.endswith("attention"):
        width = WIDTH // HEADS
        columns = slice(unit.index * width, (unit.index + 1) * width)

        def before(_module: nn.Module, given: tuple[Tensor]) -> None:
            given[0][..., columns] = 0

        handle = block.attention.out.register_forward_pre_hook(before)
    else:

        def after(_module: nn.Module, _given: Any, output: Tensor) -> None:
            output[..., unit.index] = 0

        handle = block.up.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def hook_loop(
    model: GPT, task: mv.tasks.Language, tokens: Tensor, units: Sequence[mv.Unit], batch: int
) -> Tensor:
    """The margin of each passage with each unit off, ``[units, n]``: one pass per unit."""
    rows = []
    for unit in units:
        with torch.inference_mode(), off(model, unit):
            parts = [task.outputs(model(part)) for part in tokens.split(batch)]
            rows.append(task.margin(torch.cat(parts), tokens[:, PROMPT:]))
    return torch.stack(rows)


def sweep(examples: int, sample: int, repeats: int) -> dict[str, Any]:
    """Heads and neurons of the GPT, one at a time, beside the hook loop at its best batch."""
    model = GPT(VOCABULARY, WIDTH, BLOCKS, HEADS, context=PROMPT + NEW, seed=0).eval()
    tokens, task = passages(examples), mv.tasks.Language(PROMPT, NEW)
    groups = {
        "memorized": torch.arange(examples // 2),
        "clean": torch.arange(examples // 2, examples),
    }
    study = mv.Study(model, tokens, tokens[:, PROMPT:], groups, task=task)
    units = [mv.Unit(f"blocks.{k}.attention", head) for k in range(BLOCKS) for head in range(HEADS)]
    for k in range(BLOCKS):
        units += [mv.Unit(f"blocks.{k}.up", index) for index in spread(4 * WIDTH, sample)]
    batches = [batch for batch in BATCHES if batch <= examples] or [examples]
    tried: dict[int, Callable[[], Any]] = {
        batch: lambda batch=batch: hook_loop(model, task, tokens, units[:2], batch)
        for batch in batches
    }
    times = in_turn({str(batch): work for batch, work in tried.items()}, 3)
    best = min(batches, key=lambda batch: min(times[str(batch)].cpu))
    hook, mine = Timing(), Timing()
    for _ in range(repeats):
        margins = hook.run(lambda: hook_loop(model, task, tokens, units, best))
        effects = mine.run(lambda: mv.sweep(study, mv.UnitSet(units), progress=False))
    row = {unit: number for number, unit in enumerate(units)}
    order = torch.tensor([row[unit] for unit in effects.units])
    error = (effects.margin + effects.margin_change - margins[order]).abs().max()
    return {
        "sweep_units": len(units),
        "sweep_examples": examples,
        "sweep_engine": effects.engine,
        "sweep_hook_batch": best,
        "sweep_hook_s": significant(hook.median),
        "sweep_s": significant(mine.median),
        "sweep_ratio_hook": significant(hook.median / mine.median),
        "sweep_largest_error": significant(float(error / margins.abs().max()), 2),
    }


def worker(file: str, folder: str, count: int) -> None:
    """Stream the first passages of a file into a folder, and print what a process needs for it."""
    model = GPT(64, 16, 1, 2, context=PROMPT + NEW, seed=0).eval()
    tokens = np.load(file, mmap_mode="r")[:count]
    before, score, done = peak_memory(), 0.0, 0
    with one_thread():
        start = time.thread_time()
        for part in extract_stream(
            model, tokens, folder, PROMPT, NEW, part=2048, batch_size=1024, progress=False
        ):
            score += float(part.scores.sum())
            done += len(part)
        seconds = time.thread_time() - start
    facts = {"score": score, "done": done, "seconds": seconds}
    print(json.dumps({**facts, "grown_mb": (peak_memory() - before) / 2**20}))


def stream(count: int) -> dict[str, Any]:
    """A long stream, whole and killed, and how much memory a short and a long one take."""
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "tokens.npy"
        np.save(file, passages(count, vocabulary=64).numpy().astype(np.uint16))
        short = _run(file, Path(home) / "short", count // 10)
        killed = Path(home) / "killed"
        parts = -(-count // 2048)
        process = _start(file, killed, count)
        while len(list(killed.glob("part-*"))) < max(1, parts // 3) and process.poll() is None:
            time.sleep(0.01)
        process.kill()
        process.communicate()
        kept = len(list(killed.glob("part-*.safetensors")))
        resumed = _run(file, killed, count)
        whole = _run(file, Path(home) / "whole", count)
    return {
        "stream_sequences": count,
        "stream_sequences_per_second": significant(count / whole["seconds"]),
        "stream_grown_mb": round(whole["grown_mb"]),
        "stream_grown_mb_with_a_tenth": round(short["grown_mb"]),
        "stream_parts": parts,
        "stream_parts_kept_after_the_kill": kept,
        "stream_lost": whole["done"] - resumed["done"],
        "stream_same_scores": whole["score"] == resumed["score"],
        "stream_resumed_share_of_time": significant(resumed["seconds"] / whole["seconds"], 2),
    }


def _start(file: Path, folder: Path, count: int) -> subprocess.Popen[str]:
    code = f"from benchmarks.decode import worker; worker({str(file)!r}, {str(folder)!r}, {count})"
    home = Path(__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=home
    )


def _run(file: Path, folder: Path, count: int) -> dict[str, Any]:
    told, _ = _start(file, folder, count).communicate()
    found: dict[str, Any] = json.loads(told)
    return found


def measure(
    *, batch: int = 64, repeats: int = 5, examples: int = 64, sample: int = 48, count: int = 100_000
) -> dict[str, Any]:
    """All three, as one table."""
    with one_thread():
        decoded = {family: decoding(family, batch, repeats) for family in ("gpt2", "llama")}
        swept = sweep(examples, sample, max(1, repeats // 2))
    return {"benchmark": "decode", **swept, **stream(count), **decoded, "about": about()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("decode", __doc__)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--examples", type=int, default=64, help="of the sweep")
    arguments.add_argument("--sample", type=int, default=48, help="neurons of each block")
    arguments.add_argument("--sequences", type=int, default=100_000, help="of the stream")
    chosen = arguments.parse_args(argv)
    result = measure(
        batch=chosen.batch,
        repeats=chosen.repeats,
        examples=chosen.examples,
        sample=chosen.sample,
        count=chosen.sequences,
    )
    show(result, as_json=chosen.json)


if __name__ == "__main__":
    main()
