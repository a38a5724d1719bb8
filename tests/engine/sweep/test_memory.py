"""Out of memory: the chunk is halved, that is said, and the answer is the same."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

import memviz as mv


class Small(nn.Module):
    """A convolution and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu, self.fc = nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.relu(self.conv1(x)).mean((2, 3)))


def study_of(model: nn.Module, n: int = 8) -> mv.Study:
    torch.manual_seed(0)
    groups = {"memorized": [0, 1], "clean": range(2, n)}
    return mv.Study(model.eval(), torch.randn(n, 1, 5, 5), torch.arange(n) % 3, groups)


class Hungry(Small):
    """Memory for so many examples and no more."""

    room = 3
    error: type[BaseException] = torch.OutOfMemoryError

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise self.error("tried to allocate memory")
        return super().forward(x)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_out_of_memory_halves_the_chunk_and_says_so(error: type[BaseException]) -> None:
    model = Hungry()
    study = study_of(model, n=16)
    wanted = mv.sweep(study_of_same(model, Small()), progress=False)
    model.error = error
    with pytest.warns(UserWarning, match="out of memory") as caught:
        effects = mv.sweep(study, progress=False)
    assert [str(w.message) for w in caught] == [
        "out of memory with chunks of 16 examples; going on with 8.",
        "out of memory with chunks of 8 examples; going on with 4.",
        "out of memory with chunks of 4 examples; going on with 2.",
    ]
    assert torch.allclose(effects.margin_change, wanted.margin_change, atol=1e-5)


def study_of_same(model: nn.Module, other: nn.Module) -> mv.Study:
    other.load_state_dict(model.state_dict())
    return study_of(other, n=16)


@pytest.mark.parametrize("memory", [None, 0])
def test_memory_that_runs_out_in_the_middle_of_a_sweep(
    memory: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memviz.engine.sweep._steps._MOST", 1)
    model = Hungry()
    # Of the class: a sweep runs modules of its own, which do not see a change of this one.
    monkeypatch.setattr(Hungry, "room", 16)
    study = study_of(model, n=16)
    wanted = mv.sweep(study, progress=False)
    units = 0

    def stop() -> bool:
        nonlocal units
        units += 1
        if units == 5:
            monkeypatch.setattr(Hungry, "room", 8)
        return False

    with pytest.warns(UserWarning, match="out of memory with chunks of 16 .* going on with 8"):
        effects = mv.sweep(study, progress=False, memory=memory, stop=stop, engine="replay")
    assert effects.done.all()
    assert torch.allclose(effects.margin_change, wanted.margin_change, atol=1e-5)


def test_a_single_example_that_is_too_much() -> None:
    model = Hungry()
    study = study_of(model)
    one = mv.Replay(study, torch.arange(1))
    model.room = 0
    with pytest.raises(MemoryError, match="out of memory with a single example; use a smaller"):
        one.outputs("conv1:0")
    with (
        pytest.warns(UserWarning, match="with chunks of 2 examples; going on with 1"),
        pytest.raises(MemoryError, match="out of memory with a single example"),
    ):
        mv.sweep(study, progress=False)


@pytest.mark.parametrize("engine", ["auto", "replay"])
def test_a_sweep_of_a_resnet18_stays_within_its_memory(engine: str) -> None:
    """In a process of its own: peaks of a process never go down again."""
    asked = [sys.executable, "-m", "benchmarks", "memory", "--json", "--inside", engine]
    # What was freed goes back at once, so that the peak is what the sweep held: what glibc keeps
    # beyond that differs by 50 MB from run to run.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [*asked, "--examples", "64"], capture_output=True, text=True, check=True, env=env
    )
    found = json.loads(done.stdout)
    assert found["path"] == {"auto": "graph", "replay": "replay"}[engine]
    assert found["whole_record_mb"] > found["budget_mb"] == 256
    assert found["grown_mb"] <= 256
