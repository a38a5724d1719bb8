"""A wrong argument gets one clear sentence and changes nothing; so does a model that won't run."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.engine.record import Intervention
from memviz.engine.sets import ablation_curve


class Small(nn.Module):
    """Two convolutions, an attention block's parts, and a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 1)
        self.relu, self.unused = nn.ReLU(), nn.Linear(6, 6)
        self.norm = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv2(self.relu(self.conv1(x))))
        return self.fc(self.relu(x).mean((2, 3)))


def study_of(model: nn.Module, n: int = 8) -> mv.Study:
    torch.manual_seed(0)
    groups = {"memorized": [0, 1], "clean": range(2, n)}
    return mv.Study(model.eval(), torch.randn(n, 1, 5, 5), torch.arange(n) % 3, groups)


@pytest.fixture
def study() -> mv.Study:
    return study_of(Small())


USES: dict[str, Callable[[mv.Study, str], Any]] = {
    "sweep": lambda study, units: mv.sweep(study, units, progress=False),
    "estimate": mv.estimate,
    "readout": mv.readout,
    "session": lambda study, units: mv.Session(study).toggle(units),
    "ablate": lambda study, units: ablated(study, units),
    "outputs": lambda study, units: mv.Replay(study).outputs(units),
}


def ablated(study: mv.Study, units: str, how: str = "zero") -> Tensor:
    with mv.ablate(study, units, how) as model:
        return model(study.inputs)


WRONG = {
    "an unknown layer": ("conv3:1", KeyError, "no layer 'conv3'.*nearest names are 'conv"),
    "a layer far from any": ("xyz:1", KeyError, "no layer 'xyz'.*nearest names are 'conv1', "),
    "a unit too high": ("conv1:2,4", IndexError, "'conv1' has 4 units, 0 to 3; .* no unit 4"),
    "no units at all": ("conv1", ValueError, "'conv1' is not a set of units; write layer:indices"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("use", USES)
def test_wrong_units(study: mv.Study, use: str, wrong: str) -> None:
    units, error, words = WRONG[wrong]
    before = {name: value.clone() for name, value in study.model.state_dict().items()}
    with pytest.raises(error, match=words) as caught:
        USES[use](study, units)
    assert_one_sentence(caught.value)
    assert "forward" not in vars(study.model)
    assert all(torch.equal(before[k], v) for k, v in study.model.state_dict().items())


@pytest.mark.parametrize("use", [use for use in USES if use != "ablate"])
@pytest.mark.parametrize(
    ("units", "words"),
    [
        ("unused:1", "'unused' .Linear. is never reached as a layer"),
        ("relu:0", "'relu' .ReLU. has no units of its own"),
    ],
)
def test_layers_without_units(study: mv.Study, use: str, units: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        USES[use](study, units)
    assert_one_sentence(caught.value)


def assert_one_sentence(error: BaseException) -> None:
    words = str(error)
    assert words.endswith(".")
    assert "\n" not in words
    assert len(re.findall(r"\.\s", words)) == 0


@pytest.mark.parametrize("units", ["unused:1", "relu:0", "norm:1"])
def test_ablate_refuses_layers_without_units(study: mv.Study, units: str) -> None:
    with pytest.raises((ValueError, KeyError), match=units.split(":")[0]) as caught:
        ablated(study, units)
    assert_one_sentence(caught.value)
    assert "forward" not in vars(study.model)


@pytest.mark.parametrize("how", ["drop", "", "scale", "constant x", "zero 1", "mean 0.5", 5])
def test_unknown_interventions(study: mv.Study, how: Any) -> None:
    for use in (
        lambda: mv.sweep(study, how=how, progress=False),
        lambda: mv.readout(study, "conv1:0", how),
        lambda: ablated(study, "conv1:0", how),
        lambda: mv.Session(study).use(how),
    ):
        with pytest.raises(
            ValueError, match="is not an intervention; use 'zero', 'mean'"
        ) as caught:
            use()
        assert_one_sentence(caught.value)


def test_an_intervention_that_says_nothing(study: mv.Study) -> None:
    class Mine(Intervention):
        name = "mine"

    with pytest.raises(TypeError, match="Mine defines no replace"):
        mv.Replay(study).outputs("conv1:0", Mine())


def test_unknown_groups_and_measures(study: mv.Study) -> None:
    effects = mv.sweep(study, progress=False)
    with pytest.raises(ValueError, match="no group 'tset'; this study has memorized, clean"):
        effects.scores("tset")
    with pytest.raises(ValueError, match="no group 'tset'"):
        effects.scores("memorized", "tset")
    with pytest.raises(ValueError, match="on is 'accuracy'; use 'margin' or 'loss'"):
        effects.scores(on="accuracy")
    few = mv.sweep(study, examples=torch.arange(2, 5), progress=False)
    with pytest.raises(ValueError, match="none of the swept examples is in 'memorized'"):
        few.scores("memorized", "clean")
    with pytest.raises(ValueError, match="k is 1000; these scores have 10 rows"):
        ablation_curve(study, effects.scores(), [0, 1000], random_draws=1)


@pytest.mark.parametrize("how", ["mean", "resample 1"])
def test_values_from_examples_need_examples(study: mv.Study, how: str) -> None:
    with (
        pytest.raises(ValueError, match="takes its values from examples; give a Study"),
        mv.ablate(study.model, "conv1:0", how),
    ):
        raise AssertionError("the block must not begin")


def test_no_examples(study: mv.Study) -> None:
    with pytest.raises(ValueError, match="no examples to run; name at least one"):
        mv.sweep(study, examples=torch.arange(0), progress=False)


def test_a_model_put_into_train_mode_later(study: mv.Study) -> None:
    study.model.train()
    for use in USES.values():
        with pytest.raises(ValueError, match=r"in train mode .* call model.eval"):
            use(study, "conv1:0")


def test_weights_that_became_nan(study: mv.Study) -> None:
    replay = mv.Replay(study)
    with torch.no_grad():
        study.model.fc.weight[0, 0] = torch.nan
    for use in (lambda: replay.outputs("conv1:0"), lambda: mv.sweep(study, progress=False)):
        with pytest.raises(ValueError, match=r"'fc.weight' holds NaN or infinite weights"):
            use()


def test_changed_weights_are_noticed(study: mv.Study) -> None:
    replay = mv.Replay(study)
    mean = replay.outputs("conv1:0", "mean")
    for change in (
        lambda: study.model.conv1.weight.mul_(-2),
        lambda: study.model.norm.running_mean.add_(1),
        lambda: study.model.load_state_dict(Small().state_dict()),
        lambda: setattr(study.model.fc, "weight", nn.Parameter(torch.randn(3, 6))),
    ):
        with torch.no_grad():
            change()
        now = replay.outputs("conv1:0", "mean")
        assert not torch.allclose(now, mean)
        assert torch.allclose(now, mv.Replay(study).outputs("conv1:0", "mean"), atol=1e-6)
        mean = now


def test_another_error_is_not_taken_for_memory(study: mv.Study) -> None:
    def fail(_module: nn.Module, _inputs: Any) -> None:
        raise RuntimeError("sizes do not match")

    handle = study.model.conv1.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        mv.sweep(study, progress=False)
    handle.remove()


@pytest.mark.parametrize("memory", [None, 0])
def test_a_cancelled_sweep(study: mv.Study, memory: int | None) -> None:
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == 4

    with pytest.raises(mv.CancelledError, match="cancelled; nothing has changed"):
        mv.sweep(study, progress=False, memory=memory, stop=stop)
    with pytest.raises(mv.CancelledError):
        mv.Replay(study).outputs("conv1:0", stop=lambda: True)
    assert asked == 4
    assert mv.sweep(study, progress=False).done.all()


class Forked(nn.Module):
    """Takes another path where its hidden activation is small."""

    def __init__(self, depth: str) -> None:
        super().__init__()
        self.first, self.extra, self.fc = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.depth = depth

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        if (self.depth == "example" and bool((x > 0).all())) or (
            self.depth == "unit" and float(h.detach().sum()) > 0
        ):
            h = torch.relu(self.extra(h))
        return self.fc(h)


def test_a_path_that_hangs_on_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memviz.engine.record._passes.chunk_size", lambda *_, **__: 2)
    inputs = torch.ones(4, 4)
    inputs[2:] = -1
    study = mv.Study(Forked("example").eval(), inputs, torch.zeros(4), {"test": range(4)})
    # In a batch of both kinds every example takes the second path.
    with pytest.raises(ValueError, match="depends on the other examples in its batch"):
        mv.sweep(study, progress=False)


def test_a_path_that_hangs_on_the_ablated_units() -> None:
    torch.manual_seed(0)
    model = Forked("unit").eval()
    with torch.no_grad():
        model.first.bias.fill_(5.0)
    study = mv.Study(model, torch.randn(4, 4), torch.zeros(4), {"test": range(4)})
    everything = "first:0-3"
    with torch.no_grad():
        wanted = model.fc(torch.zeros(4, 4))  # the shorter path
    for memory in (None, 0):
        replay = mv.Replay(study, memory=memory)
        assert torch.allclose(replay.outputs(everything), wanted)
        with pytest.raises(RuntimeError, match="takes another path when these units are ablated"):
            replay.outputs(f"{everything} extra:0")
    with pytest.raises(RuntimeError, match="takes another path when these units are ablated"):
        ablated(study, f"{everything} extra:0")
    assert torch.allclose(ablated(study, everything), wanted)


def test_ablate_follows_each_batch_on_its_path() -> None:
    torch.manual_seed(0)
    model, plus = Forked("example").eval(), torch.ones(2, 4)
    with torch.no_grad():
        hidden = torch.relu(model.first(-plus))
        hidden[:, 1] = 0
        short = model.fc(hidden)
        hidden = torch.relu(model.first(plus))
        hidden[:, 1] = 0
        long = model.fc(torch.relu(model.extra(hidden)))
        with mv.ablate(model, "first:1"):
            for inputs, wanted in ((plus, long), (-plus, short), (plus, long)):
                assert torch.allclose(model(inputs), wanted)


def test_warnings_are_errors_here() -> None:
    with pytest.raises(UserWarning, match="as the configuration says"):
        warnings.warn("as the configuration says", stacklevel=1)
