"""Two kernels on one cache at the same time: the same values as one alone, and no torn file."""

import os
import subprocess
import sys
import threading
from pathlib import Path

from memviz.tensor_files import read

ROOT = Path(__file__).parents[1]
ROUNDS = 8
LONGEST = 300  # seconds; kernels that wait for each other fail instead of hanging
# What is kept in a folder, made where it is not there; both kernels begin together.
KERNEL = """
import sys, warnings
from pathlib import Path
import torch
from memviz.demos._kept import Kept
from memviz.tensor_files import digest
from tests.support import written

warnings.simplefilter("error")  # a torn file is warned of, and made again
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
study = written.study()


def trained(round):
    network = written.network()
    settings = {**written.SETTINGS, "seed": round}
    written.train(network, written.INPUTS, written.LABELS, **settings, progress=False)
    return network.state_dict()


def weights(round, own):
    part = Kept(f"network{round}", {"recipe": "two kernels"}, shipped=False)
    if part.read("last") is None:
        part.write("last", trained(round))
    return part.read("last")


def subsets(round, own):
    found = written.train_subsets(study, written.fit, trainings=3, folder=own, progress=False)
    return {"inside": found.inside, "correct": found.correct}


def effects(round, own):
    found = written.mv.sweep(study, path=own / "sweep.safetensors", progress=False)
    return {"margin": found.margin_change, "loss": found.loss_change}


def embeddings(round, own):
    model, inputs = study.model, written.INPUTS
    found = written.cached_embeddings(own, model, "tower", model, inputs, progress=False)
    return {"rows": found}


print("ready", flush=True)
sys.stdin.readline()
for round in range(rounds):
    own = folder / str(round)
    own.mkdir(exist_ok=True)
    for make in (weights, subsets, effects, embeddings):
        print(make.__name__, digest(make(round, own)))
"""


def run_at_once(cache: Path, kernels: int) -> list[list[str]]:
    """What each kernel found, line by line."""
    cache.mkdir()
    command = [sys.executable, "-c", KERNEL, str(cache), str(ROUNDS)]
    environment = {**os.environ, "MEMVIZ_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = [
        subprocess.Popen(command, text=True, cwd=ROOT, env=environment, **pipes)
        for _ in range(kernels)
    ]
    ends = threading.Timer(LONGEST, lambda: [process.kill() for process in running])
    ends.start()
    try:
        for process in running:
            assert process.stdout.readline() == "ready\n", process.communicate()
        for process in running:
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [process.communicate() for process in running]
    finally:
        ends.cancel()
    for process, (_, errors) in zip(running, told, strict=True):
        assert process.returncode == 0, errors
    return [lines.splitlines() for lines, _ in told]


def test_two_kernels_on_one_cache_find_what_one_finds_and_tear_no_file(tmp_path: Path) -> None:
    [alone] = run_at_once(tmp_path / "alone", 1)
    assert len(alone) == 4 * ROUNDS
    one, other = run_at_once(tmp_path / "shared", 2)
    assert one == other == alone
    shared, own = tmp_path / "shared", tmp_path / "alone"
    files = {path.relative_to(shared) for path in shared.rglob("*") if path.is_file()}
    assert files == {path.relative_to(own) for path in own.rglob("*") if path.is_file()}
    for name in files:  # nothing half written is left, and each can be read
        assert name.suffix == ".safetensors"
        read(shared / name)
