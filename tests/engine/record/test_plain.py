"""The guarantee: what disagrees with the plain model falls back, or is refused with the cause."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import memviz as mv
from memviz.engine.graph import _rules, _run
from memviz.engine.record import Tape
from tests.support.mixtures import Experts
from tests.support.traces import no_trace

Twist = Callable[["Twisted", Tensor], Tensor]


class Twisted(nn.Module):
    """Three linear layers, with something odd between the first two."""

    count: Tensor

    def __init__(self, twist: Twist | None = None) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.twist = twist
        self.register_buffer("count", torch.zeros(()))
        self.calls = 0
        self.generator = torch.Generator().manual_seed(1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.a(x))
        if self.twist is not None:
            hidden = self.twist(self, hidden)
        output: Tensor = self.c(torch.relu(self.b(hidden)))
        return output


def study_of(model: nn.Module, inputs: Any = None, n: int = 24) -> mv.Study:
    inputs = torch.randn(n, 6) if inputs is None else inputs
    half = {"memorized": range(n // 2), "clean": range(n // 2, n)}
    return mv.Study(model.eval(), inputs, torch.arange(n) % 3, half)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def counted(model: Twisted, hidden: Tensor) -> Tensor:
    model.count += 1
    return hidden * model.count


def called(model: Twisted, hidden: Tensor) -> Tensor:
    model.calls += 1
    return hidden * model.calls


def through_numpy(model: Twisted, hidden: Tensor) -> Tensor:
    hidden.detach().numpy()[:] *= 2
    return hidden


REFUSED: dict[str, tuple[Twist, str]] = {
    "dropout": (lambda _, h: F.dropout(h, 0.3), "draws random numbers from torch"),
    "rarely": (
        lambda _, h: h * (1 + (torch.rand(()) < 0.9)),
        "draws random numbers from torch",
    ),
    "hardly": (lambda _, h: F.dropout(h, 1e-9), "draws random numbers from torch .* 'dropout'"),
    "python": (lambda _, h: h * random.random(), "draws random numbers from Python's"),
    "numpy": (lambda _, h: h * np.random.rand(), "draws random numbers from NumPy"),  # noqa: NPY002
    "own": (lambda m, h: h * torch.rand(8, generator=m.generator), "generator of its own"),
    "fresh": (lambda _, h: h * np.random.default_rng().random(), "generator of its own"),
    "buffer": (counted, "each call changes 'count'"),
    "attribute": (called, "each call changes 'calls'"),
    "centred": (lambda _, h: h - h.mean(0), "depends on the other examples .* module 'b'"),
    "first": (lambda _, h: h + h[:1], "depends on the other examples"),
    "order": (lambda _, h: h * torch.arange(len(h))[:, None], "depends on the other examples"),
    "large": (lambda _, h: h * (2 if len(h) > 20 else 1), "depends on the other examples"),
    "seeded": (
        lambda _, h: h * torch.rand(h.shape, generator=torch.Generator().manual_seed(0)),
        "depends on the other examples",
    ),
    "view": (through_numpy, "in place where torch can't see it"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_study_without_an_answer_is_refused_with_the_cause(kind: str) -> None:
    twist, cause = REFUSED[kind]
    study = study_of(Twisted(twist))
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    hooks = [len(module._forward_hooks) for module in study.model.modules()]
    with pytest.raises(ValueError, match=cause) as caught:
        mv.sweep(study, progress=False)
    assert "\n" not in str(caught.value)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert np.array_equal(states[2][1], np.random.get_state()[1])  # noqa: NPY002
    assert study.model.count == 0
    assert hooks == [len(module._forward_hooks) for module in study.model.modules()]


def test_random_numbers_that_do_not_reach_the_output_are_no_reason_to_refuse() -> None:
    def unused(_model: Twisted, hidden: Tensor) -> Tensor:
        torch.rand(3).relu()
        return hidden

    def seeded(_model: Twisted, hidden: Tensor) -> Tensor:
        torch.manual_seed(0)
        return hidden * torch.rand(8)

    for twist in (unused, seeded):
        study = study_of(Twisted(twist))
        effects = mv.sweep(study, "a:0-7", progress=False)
        for row, unit in enumerate(effects.units):
            with zeroed(study.model, unit):
                margin = study.task.margin(study.model(study.inputs), study.labels)
            assert torch.allclose(effects.margin + effects.margin_change[row], margin, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_of_large_values_that_cancel_is_no_coupling(dtype: torch.dtype) -> None:
    model = Twisted().to(dtype)
    with torch.no_grad():
        model.b.weight *= 1e5
        model.b.bias += 1e5
        model.c.weight[:] = torch.tensor([1.0, -1.0] * 4) * 1e-3
        model.c.weight += 1e-8 * torch.randn(3, 8)
    study = study_of(model, torch.randn(400, 6, dtype=dtype), 400)
    effects = mv.sweep(study, "a:0,1", progress=False)
    assert effects.done.all()


def test_a_model_that_returns_other_rows_is_refused() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6), nn.Unflatten(1, (2, 3)))

    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x).flatten(0, 1)  # type: ignore[no-any-return]

    with pytest.raises(ValueError, match="returned .* rows for .* examples"):
        mv.sweep(study_of(Positions()), progress=False)


def test_batch_norm_without_running_statistics_is_named() -> None:
    model = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.ReLU(), nn.Linear(8, 3)
    )
    with pytest.raises(ValueError, match="batch norm '1' has no running statistics"):
        mv.readout(study_of(model), "0:1")


class Encoder(nn.Module):
    """A transformer encoder with padding, that reads every position."""

    def __init__(self, *, masked: bool, nested: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
        self.head, self.masked = nn.Linear(16, 3), masked

    def forward(self, tokens: Tensor) -> Tensor:
        padded = tokens == 0
        hidden = self.encoder(self.embedding(tokens), src_key_padding_mask=padded)
        if self.masked:
            kept = (~padded)[..., None]
            hidden = (hidden * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True)
        output: Tensor = self.head(hidden.mean(1))
        return output


def padded_tokens(n: int = 24, low: int = 1, vocabulary: int = 20) -> Tensor:
    tokens = torch.randint(low, vocabulary, (n, 7))
    tokens[8:14, 5:] = 0
    tokens[9, 3:] = 0
    return tokens


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_the_fused_path_of_a_transformer_is_refused_where_it_shows() -> None:
    tokens = padded_tokens()
    with pytest.raises(ValueError, match="fused path"):
        mv.sweep(study_of(Encoder(masked=False, nested=True), tokens), progress=False)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize(("masked", "nested"), [(True, True), (False, False)])
def test_and_is_right_where_it_does_not(masked: bool, nested: bool) -> None:
    study = study_of(Encoder(masked=masked, nested=nested), padded_tokens())
    effects = mv.sweep(study, "encoder.layers.1.linear2:0-3", progress=False)
    with torch.no_grad():
        plain = study.model(study.inputs)
    assert torch.allclose(effects.margin, study.task.margin(plain, study.labels), atol=1e-5)
    assert effects.margin_change.abs().max() > 1e-3


def data_doubled(model: Twisted, hidden: Tensor) -> Tensor:
    before = hidden + 1
    hidden.data.mul_(2)
    return hidden + before


def test_changes_through_data_are_followed() -> None:
    study = study_of(Twisted(data_doubled))
    effects = mv.sweep(study, progress=False)
    for row, unit in enumerate(effects.units):
        with zeroed(study.model, unit):
            margin = study.task.margin(study.model(study.inputs), study.labels)
        assert torch.allclose(effects.margin + effects.margin_change[row], margin, atol=1e-5)


@contextmanager
def zeroed(model: nn.Module, unit: mv.Unit) -> Iterator[None]:
    """A plain hook: layers of ``Twisted`` are followed by a ReLU, which keeps zero at zero."""

    def zero(_module: nn.Module, _given: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[..., unit.index] = 0
        return output

    handle = model.get_submodule(unit.layer).register_forward_hook(zero)
    try:
        with torch.no_grad():
            yield
    finally:
        handle.remove()


@pytest.mark.parametrize("how", ["data", "numpy"])
def test_weights_changed_behind_torch_are_noticed(how: str) -> None:
    study = study_of(Twisted())
    replay = mv.Replay(study)
    before = replay.outputs("a:0")
    if how == "data":
        study.model.b.weight.data[3] += 1
    else:
        study.model.b.weight.detach().numpy()[3] += 1
    after = replay.outputs("a:0")
    assert not torch.equal(before, after)
    assert torch.equal(after, mv.Replay(study).outputs("a:0"))


def test_a_wrong_graph_is_given_up_for_replay_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(Twisted())
    right = mv.sweep(study, progress=False, engine="hook")
    first: list[Any] = []
    run = _run.Flow.result

    def repeated(flow: Any) -> Any:
        # What a graph did whose record was overwritten: the first answer, for every unit.
        first.append(run(flow))
        return first[0]

    monkeypatch.setattr(_run.Flow, "result", repeated)
    effects = mv.sweep(study, progress=False)
    assert effects.engine == "replay"
    assert "a: the graph is off by" in effects.why
    assert "a: the graph is off by" in repr(effects)
    assert torch.allclose(effects.margin_change, right.margin_change, atol=1e-6)


def test_a_wrong_replay_is_given_up_for_whole_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(Twisted())
    right = mv.sweep(study, progress=False, engine="hook")
    monkeypatch.setattr(Tape, "replay", lambda tape, edits: tape.raw)
    monkeypatch.setitem(_rules.RULES, "linear", lambda flow, node: node.out + 1)
    effects = mv.sweep(study, progress=False)
    assert effects.engine == "hook"
    assert "replay is off by" in effects.why
    assert torch.equal(effects.margin_change, right.margin_change)


def test_what_no_engine_can_ablate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(Twisted())

    def plainly(_trace: Any, _edits: Any, forward: Callable[[], Tensor], **_: Any) -> Tensor:
        return forward()

    monkeypatch.setattr(
        "memviz.engine.record._passes.run_edited", lambda *_, **__: torch.ones(1, 3)
    )
    monkeypatch.setattr(Tape, "replay", lambda tape, edits: tape.raw)
    with pytest.raises(ValueError, match="memviz can't ablate b in this model"):
        mv.Replay(study).outputs("b:0")


def test_a_wrong_record_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(Twisted())
    right = mv.sweep(study, progress=False)
    record = Tape.__init__

    def wrong(self: Tape, trace: Any, calls: Any, prepare: Any, raw: Tensor, *rest: Any) -> None:
        record(self, trace, calls, prepare, raw + 1 + torch.arange(3.0), *rest)

    monkeypatch.setattr(Tape, "__init__", wrong)
    effects = mv.sweep(study_of_same(study), progress=False)
    assert effects.engine == "hook"
    assert "a recorded pass gives other outputs" in effects.why
    assert torch.allclose(effects.margin_change, right.margin_change, atol=1e-6)


def study_of_same(study: mv.Study) -> mv.Study:
    return mv.Study(study.model, study.inputs, study.labels, study.groups)


def test_answers_do_not_depend_on_the_order_of_units() -> None:
    study = study_of(Twisted())
    effects = mv.sweep(study, progress=False)
    backwards = mv.sweep(study, "b:7,3", progress=False)
    for unit in backwards.units:
        row, other = backwards.units.index(unit), effects.units.index(unit)
        assert torch.equal(backwards.margin_change[row], effects.margin_change[other])


@pytest.mark.parametrize("memory", [None, 0])
def test_examples_may_take_several_paths(memory: int | None) -> None:
    model = Experts().eval()
    inputs = torch.randn(24, 6)
    order = model.router(inputs).argmax(1).argsort(stable=True)
    study = study_of(model, inputs[order])
    with no_trace(model):
        effects = mv.sweep(study, "experts.0:0-7 experts.2:0-7", progress=False, memory=memory)
        estimates = mv.estimate(study, "experts.0:0-7 experts.2:0-7")
    for row, unit in enumerate(effects.units):
        with zeroed(model, unit):
            margin = study.task.margin(model(study.inputs), study.labels)
        assert torch.allclose(effects.margin + effects.margin_change[row], margin, atol=1e-5)
    assert estimates.margin_change.isnan().all()
    assert "no estimate for experts.0, experts.2" in estimates.why


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_padded_text_beside_unpadded(name: str) -> None:
    """A model of text skips its mask where no example of a batch is padded."""
    import transformers

    sizes = {"num_attention_heads": 2, "hidden_size": 16, "num_hidden_layers": 2}
    common = {"vocab_size": 20, "num_labels": 3, "pad_token_id": 0}
    model: nn.Module
    if name == "bert":
        config = transformers.BertConfig(intermediate_size=24, **sizes, **common)
        model, layer = transformers.BertForSequenceClassification(config), "intermediate.dense"
    elif name == "gpt2":
        config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_inner=24, **common)
        model, layer = transformers.GPT2ForSequenceClassification(config), "mlp.c_fc"
    else:
        config = transformers.LlamaConfig(intermediate_size=24, **sizes, **common)
        model, layer = transformers.LlamaForSequenceClassification(config), "mlp.up_proj"
    tokens = padded_tokens(12)
    mask = (tokens != 0).long()
    study = study_of(model.eval(), {"input_ids": tokens, "attention_mask": mask}, 12)
    layer = next(n for n, _ in model.named_modules() if n.endswith(layer))
    effects = mv.sweep(study, f"{layer}:0,5", progress=False)
    for row, unit in enumerate(effects.units):
        for example in (0, 8, 11):
            alone = {"input_ids": tokens[[example]], "attention_mask": mask[[example]]}
            with zeroed_after(model, unit, name):
                logits = model(**alone).logits
            margin = study.task.margin(logits, study.labels[[example]])
            change = effects.margin[example] + effects.margin_change[row, example]
            assert torch.allclose(change, margin[0], atol=1e-5)
    estimates = mv.estimate(study, f"{layer}:0,5")
    assert estimates.margin_change.isfinite().all()


@contextmanager
def zeroed_after(model: nn.Module, unit: mv.Unit, name: str) -> Iterator[None]:
    """A plain hook that zeroes a unit where memviz does: after the activation, if one follows."""
    if name == "llama":  # up_proj is multiplied, no non-linearity follows it
        with zeroed(model, unit):
            yield
        return
    parent = model.get_submodule(unit.layer.rsplit(".", 1)[0])
    act = parent.intermediate_act_fn if name == "bert" else parent.act

    def zero(_module: nn.Module, _given: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[..., unit.index] = 0
        return output

    handle = act.register_forward_hook(zero)
    try:
        with torch.no_grad():
            yield
    finally:
        handle.remove()
