"""A kept pass restarts at the first layer that differs, and gives what a fresh pass gives."""

import pytest
import torch
import torchvision

import memviz as mv
from memviz.engine.record import _passes as passes
from memviz.engine.record import chunk_size
from memviz.units import Unit, UnitSet


def study_of(model: torch.nn.Module, inputs: torch.Tensor) -> mv.Study:
    return mv.Study(model, inputs, torch.zeros(len(inputs)), {"all": range(len(inputs))})


class InPlace(torch.nn.Module):
    """In-place calls on a residual sum, and one module used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(6, 8)
        self.shared = torch.nn.Linear(8, 8)
        self.act = torch.nn.ReLU(inplace=True)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.act(self.first(x))
        for _ in range(2):
            step = self.act(self.shared(h))
            step += h
            h = step
            h.mul_(0.5)
        return self.head(h)


@pytest.mark.parametrize("name", ["in-place", "resnet18"])
def test_a_walk_of_kept_passes_equals_fresh_ones(name: str) -> None:
    torch.manual_seed(0)
    if name == "in-place":
        study = study_of(InPlace().eval(), torch.randn(5, 6))
    else:
        study = study_of(torchvision.models.resnet18().eval(), torch.randn(3, 3, 32, 32))
    walk, fresh = mv.Replay(study), mv.Replay(study)
    units = [unit for layer in walk.layers for unit in layer.all()]
    order = torch.randperm(len(units), generator=torch.Generator().manual_seed(1)).tolist()
    off = UnitSet()
    for step, row in enumerate(order[:24]):
        off = off ^ UnitSet([units[row], units[order[0]]])
        how = ("zero", "mean", "filter", "constant 0.5", "resample 1")[step // 3 % 5]
        kept = walk.outputs(off, how, keep=True)
        assert torch.equal(kept, fresh.outputs(off, how)), (step, how, str(off))
    assert torch.equal(walk.outputs("", keep=True), fresh.clean)


def test_only_what_differs_is_computed(digits: mv.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = mv.Replay(digits)
    walk.outputs("conv1:0", keep=True)
    walk.outputs("conv1:0 fc:3", keep=True)
    before = [id(call.output) for call in walk._live[0].calls]
    walk.outputs("conv1:0 fc:4", keep=True)
    after = [id(call.output) for call in walk._live[0].calls]
    shared = sum(a == b for a, b in zip(before, after, strict=True))
    first_change = walk.located["fc"].unit_sites[0].call
    assert shared >= first_change
    assert before[first_change] != after[first_change]


def test_a_second_record_that_does_not_fit_is_not_kept(digits: mv.Study) -> None:
    whole = mv.Replay(digits)
    tight = mv.Replay(digits, memory=int(2.5 * whole._recorded_bytes))
    assert tight.engine == "replay"
    found = tight.outputs([Unit("conv4", 3)], keep=True)
    assert torch.equal(found, whole.outputs("conv4:3"))
    assert tight._live == [None] * tight.steps


def test_records_are_not_made_where_they_would_not_be_kept(
    digits: mv.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, made = mv.Replay(digits), []
    record = passes.record
    monkeypatch.setattr(passes, "record", lambda *given: made.append(record(*given)) or made[-1])
    monkeypatch.setattr(passes, "chunk_size", lambda *_, **__: 100)
    tight = mv.Replay(digits, memory=int(0.4 * whole._recorded_bytes))
    assert tight.engine == "hook" and tight._tapes == [None] * tight.steps
    assert len(made) == 1  # compared with plain calls, and given up
    assert torch.allclose(tight.clean, whole.clean, atol=1e-5)
    assert torch.allclose(tight.outputs("conv4:3"), whole.outputs("conv4:3"), atol=1e-5)


def test_of_a_larger_output_only_what_the_task_takes_is_kept() -> None:
    model = torch.nn.Linear(6, 300).eval()
    inputs, labels = torch.randn(5, 6), torch.zeros(5)
    few = mv.tasks.Classification(outputs=lambda raw: raw[:, :3])
    study = mv.Study(model, inputs, labels, {"all": range(5)}, task=few)
    clean = mv.Replay(study).clean
    assert torch.allclose(clean, model(inputs)[:, :3])
    assert clean.untyped_storage().nbytes() == clean.nbytes


def test_models_with_large_weights_run_more_examples_at_once() -> None:
    cpu, mb = torch.device("cpu"), 2**20
    small, large = (chunk_size(mb, cpu, largest=4 * mb, weights=w * mb) for w in (64, 640))
    assert (small, large) == (2, 20)
    assert chunk_size(60 * mb, cpu, largest=4 * mb, weights=640 * mb) == 2  # records must fit


class ChangesItsInput(torch.nn.Module):
    """Adds to its input through a view, so that no copy of the input object can catch it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.view(-1).add_(1.0)
        return self.head(self.first(x).relu())


def test_a_model_that_changes_its_input_answers_the_same_each_time() -> None:
    torch.manual_seed(0)
    study = study_of(ChangesItsInput().eval(), torch.randn(5, 6))
    inputs = study.inputs.clone()
    replay = mv.Replay(study)
    first = replay.outputs("first:2")
    for _ in range(3):
        assert torch.equal(replay.outputs("first:2"), first)
        assert torch.equal(replay.outputs("first:2", keep=True), first)
    with torch.no_grad():
        hidden = study.model.first(inputs + 1).relu()
        hidden[:, 2] = 0
        assert torch.allclose(first, study.model.head(hidden), atol=1e-6)
    assert torch.equal(study.inputs, inputs)


class Reuses(torch.nn.Module):
    """Returns a tensor that its next call writes over."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(4, 3)
        self.out = torch.zeros(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out[: len(x)].copy_(self.fc(x))


def test_outputs_that_the_next_call_writes_over_are_kept() -> None:
    torch.manual_seed(0)
    model, x = Reuses().eval(), torch.randn(300, 4)
    with torch.no_grad():
        plain = model.fc(x)
        replay = mv.Replay(study_of(model, x), memory=1)
    assert len(replay._chunks) > 3
    torch.testing.assert_close(replay.clean, plain)


def test_a_record_made_late_is_compared_with_the_plain_pass() -> None:
    torch.manual_seed(0)
    model, x = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU()), torch.randn(300, 4)
    replay = mv.Replay(study_of(model.eval(), x), memory=1)
    assert replay.steps > 1 and replay.tape(1) is None
    with replay.recorded(1):
        assert replay.tape(1) is not None
    replay.clean[replay._chunks[1][0]] += 1
    with pytest.raises(ValueError, match="a recorded pass is off by 1.0e"), replay.recorded(1):
        pass
    assert replay.tape(1) is None
