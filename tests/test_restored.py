"""What a call changes is put back, also where an interrupt comes at the worst of lines."""

from __future__ import annotations

import linecache
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import memviz as mv
from memviz.engine.record import trace
from memviz.restored import buffers_kept, random_kept, undisturbed
from memviz.study import private

FILES = ("restored.py", "_trace.py", "_hooks.py", "_replay.py", "_reference.py", "_calls.py")


class Counting(nn.Module):
    """Draws, and counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        torch.rand(())
        return self.second(torch.relu(self.first(x)))


class Lines:
    """Counts the lines that are run in these files, and raises at one of them."""

    def __init__(self, at: int = -1) -> None:
        self.at, self.run = at, []

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        path = Path(frame.f_code.co_filename)
        if "memviz" not in path.parts or path.name not in FILES:
            return None
        if event == "line":
            self.run.append((path, frame.f_lineno))
            if len(self.run) == self.at:
                raise KeyboardInterrupt
        return self


def lines_of(call: Callable[[], object], at: int = -1) -> list[tuple[Path, int]]:
    """The lines that the call runs, interrupted at the n-th of them."""
    lines, before = Lines(at), sys.gettrace()
    sys.settrace(lines)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return lines.run


def each_once(run: list[tuple[Path, int]]) -> dict[int, str]:
    """The last time that each line is run, where an interrupt can come.

    A context of torch's own ends in C, and ``try:`` runs nothing.
    """
    last = {line: number for number, line in enumerate(run, 1)}
    texts = {line: linecache.getline(str(line[0]), line[1]) for line in last}
    return {
        number: f"{path.name}:{line}"
        for (path, line), number in last.items()
        if "torch._C." not in texts[path, line] and texts[path, line].strip() != "try:"
    }


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def study() -> mv.Study:
    torch.manual_seed(0)
    model = Counting().eval()
    return mv.Study(model, torch.randn(6, 4), torch.arange(6) % 3, {"memorized": range(6)})


def traced(of: mv.Study) -> Callable[[], Any]:
    return lambda: len(trace(of.model, of.call(of.batch(torch.arange(6)))).calls)


def ablated(of: mv.Study) -> Callable[[], Any]:
    replay = mv.Replay(of)
    return lambda: replay.outputs("first:1").tolist()


@pytest.mark.parametrize("operation", [traced, ablated])
def test_an_interrupt_at_any_line_leaves_nothing_behind(operation: Callable[..., Any]):
    expected = operation(study())()
    lines = each_once(lines_of(operation(study())))
    assert len(lines) > 40
    for at, where in lines.items():
        fresh = study()
        call, drawn = operation(fresh), torch.get_rng_state()
        assert len(lines_of(call, at)) == at
        assert torch.is_grad_enabled(), where
        assert torch.equal(torch.get_rng_state(), drawn), where
        assert torch._C._len_torch_function_stack() == 0, where
        assert torch._C._len_torch_dispatch_stack() == 0, where
        twin = private(fresh).model
        assert hooks(fresh.model) == hooks(twin) == 0, where
        assert fresh.model.calls == twin.calls == 0, where
        assert operation(fresh)() == call() == expected, where


def test_a_second_end_is_as_good_as_one_and_one_is_enough():
    torch.manual_seed(1)
    model = nn.BatchNorm1d(3)
    before = torch.get_rng_state()
    for times in (1, 2):
        calm = undisturbed(random=True, counting=model)
        with calm:
            if times == 2:
                calm.__exit__(None, None, None)
            torch.rand(3)
            model(torch.randn(5, 3))
            model.running_mean = torch.ones(3)
        assert torch.equal(before, torch.get_rng_state()) and torch.is_grad_enabled()
        assert model.num_batches_tracked == 0 and not model.running_mean.any()


def test_modes_that_were_not_left_are_left():
    from torch.overrides import BaseTorchFunctionMode

    calm = undisturbed(random=False)
    with BaseTorchFunctionMode():
        inside = undisturbed(random=False)
        with inside:
            BaseTorchFunctionMode().__enter__()
        assert torch._C._len_torch_function_stack() == 1
    with calm:
        pass
    assert torch._C._len_torch_function_stack() == 0


def test_random_states_are_named_and_put_back():
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    with random_kept() as kept:
        assert kept.moved() == []
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        assert sorted(kept.moved()) == ["NumPy", "Python's random module", "torch"]
    assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[2])
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002


def test_written_says_whether_a_buffer_was_written():
    model = Counting()
    with buffers_kept(model) as kept:
        assert not kept.written()
        model(torch.zeros(1, 4))
        assert kept.written()
    assert (model.calls == 0 and not kept.written()) or model.calls == 0
    assert len(trace(model.eval(), lambda: model(torch.zeros(1, 4))).calls) > 2
