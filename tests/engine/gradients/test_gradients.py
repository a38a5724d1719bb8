"""Gradient norms equal automatic differentiation, one example at a time, whatever the layers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import memviz as mv
from benchmarks import gradient_norms as benchmark
from benchmarks import models
from memviz.engine.gradients import GradientNorms, gradient_norms, gradient_products
from memviz.engine.gradients import _ghost_norms as ghost_norms
from memviz.engine.gradients import _parts as gradient_parts
from tests.support.nets import Conv1D
from tests.support.traces import Fragile, no_trace


def by_hand(study: mv.Study, labels: Tensor | None = None) -> Tensor:
    """Norms ``[parameters, n]``: a forward and a backward pass for each example."""
    labels = study.labels if labels is None else labels
    weights = [p for p in study.model.parameters() if p.requires_grad]
    rows = []
    for k in torch.arange(len(study))[:, None]:
        outputs = study.task.outputs(study.call(study.batch(k))())
        loss = study.task.loss(outputs, labels[k]).sum()
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        rows.append([0.0 if g is None else float(g.to_dense().norm()) for g in gradients])
    return torch.tensor(rows, dtype=torch.float64).T


def study_of(model: nn.Module, inputs: Tensor, classes: int = 3) -> mv.Study:
    """Double precision, so that no rounding falls to another side of a ReLU."""
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    groups = {"test": range(len(inputs))}
    return mv.Study(model.double().eval(), inputs, torch.arange(len(inputs)) % classes, groups)


def check(study: mv.Study) -> GradientNorms:
    found, true = gradient_norms(study, progress=False), by_hand(study)
    assert torch.allclose(found.values.double(), true, rtol=1e-5, atol=1e-6 * float(true.max()))
    return found


class Pooled(nn.Module):
    """One layer, a non-linearity, the mean over positions, a head."""

    def __init__(self, layer: nn.Module, features: int, axis: int = 1) -> None:
        super().__init__()
        self.layer, self.head, self.axis = layer, nn.Linear(features, 3), axis

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x)
        x = torch.tanh(x[0] if isinstance(x, tuple) else x)
        if x.dim() == 2:
            return self.head(x)
        return self.head(x.flatten(2).mean(2) if self.axis == 1 else x.flatten(1, -2).mean(1))


class Channels(nn.Module):
    """Channels last, of images of a video."""

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(2, -1)


class Raw(nn.Module):
    """Parameters of its own: class token, positions, scales, and matrices either way round."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.places = nn.Parameter(torch.randn(6, 6))
        self.scale = nn.Parameter(torch.randn(6))
        self.inwards, self.outwards = (nn.Parameter(torch.randn(6, 6)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "expand":
            token = self.token.expand(len(x), -1, -1)
        else:
            token = self.token.repeat(len(x), 1, 1) if self.way == "repeat" else self.token + 0 * x
        x = torch.cat([token[:, :1], x], 1)
        x = x + self.places if self.way != "repeat" else self.places - x
        x = x * self.scale
        x += self.scale[:3].repeat(2)  # part of a parameter that is used elsewhere, too
        return torch.tanh(x @ self.inwards) @ self.outwards.T


class Called(nn.Module):
    """Calls a function on its input, with its own linear layer."""

    def __init__(self, features: int, units: int, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.linear, self.call = nn.Linear(features, units), call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x, self.linear)


def interleaved(x: Tensor, linear: nn.Module) -> Tensor:
    flat = linear(x.transpose(0, 1).reshape(-1, x.shape[2]))
    return flat.view(x.shape[1], x.shape[0], -1).transpose(0, 1)


SEQUENCE, LONG = torch.randn(4, 5, 6), torch.randn(4, 40, 6)
IMAGES, TOKENS = torch.randn(4, 4, 7, 6), torch.randint(0, 5, (4, 6))
COVERED: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "linear": lambda: (Pooled(nn.Linear(6, 8), 8), SEQUENCE[:, 0]),
    "linear, few positions": lambda: (Pooled(nn.Linear(6, 8), 8, -1), SEQUENCE),
    "linear, many positions": lambda: (Pooled(nn.Linear(6, 8), 8, -1), LONG),
    "linear, positions first": lambda: (
        Pooled(Called(6, 8, lambda x, f: f(x.transpose(0, 1)).transpose(0, 1)), 8, -1),
        SEQUENCE,
    ),
    "linear, four axes": lambda: (Pooled(nn.Linear(6, 8), 8, -1), IMAGES),
    "linear, windows": lambda: (
        Pooled(Called(6, 8, lambda x, f: f(x.view(-1, 2, 6)).view(-1, 40, 8)), 8, -1),
        LONG,
    ),
    "linear, interleaved": lambda: (Pooled(Called(6, 8, interleaved), 8, -1), SEQUENCE),
    "Conv1D": lambda: (Pooled(Conv1D(6, 8), 8, -1), SEQUENCE),
    "conv, images of a video": lambda: (
        Pooled(
            nn.Sequential(
                nn.Flatten(0, 1), nn.Conv2d(4, 5, 3), nn.Unflatten(0, (-1, 2)), Channels()
            ),
            5,
            -1,
        ),
        torch.randn(3, 2, 4, 6, 6),
    ),
    "batch norm": lambda: (Pooled(nn.Sequential(nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)), 5), IMAGES),
    "batch norm of features": lambda: (Pooled(nn.BatchNorm1d(6), 6), SEQUENCE[:, 0]),
    "layer norm": lambda: (Pooled(nn.LayerNorm((5, 6)), 6, -1), SEQUENCE),
    "rms norm": lambda: (Pooled(nn.RMSNorm(6), 6, -1), SEQUENCE),
    "group norm": lambda: (Pooled(nn.GroupNorm(2, 4), 4), IMAGES),
    "instance norm": lambda: (Pooled(nn.InstanceNorm2d(4, affine=True), 4), IMAGES),
    "embedding": lambda: (Pooled(nn.Embedding(5, 6, padding_idx=2), 6, -1), TOKENS),
    "sparse embedding": lambda: (Pooled(nn.Embedding(5, 6, sparse=True), 6, -1), TOKENS),
    "raw, expanded": lambda: (Pooled(Raw("expand"), 6, -1), SEQUENCE),
    "raw, repeated": lambda: (Pooled(Raw("repeat"), 6, -1), SEQUENCE),
    "raw, added": lambda: (Pooled(Raw("add"), 6, -1), SEQUENCE),
    "attention": lambda: (Pooled(Attending(False), 6, -1), SEQUENCE),
    "attention, batch first": lambda: (Pooled(Attending(True), 6, -1), SEQUENCE),
    "encoder layer": lambda: (
        Pooled(nn.TransformerEncoderLayer(6, 2, 12, batch_first=True), 6, -1),
        SEQUENCE,
    ),
    "weight norm": lambda: (
        Pooled(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 5, 3)), 5),
        IMAGES,
    ),
    "called twice": lambda: (
        Pooled(Called(6, 6, lambda x, f: f(torch.tanh(f(x)))), 6, -1),
        SEQUENCE,
    ),
    "a difference, and a sum": lambda: (
        Pooled(Called(6, 6, lambda x, f: torch.tanh(x - f.bias) + f.bias), 6, -1),
        SEQUENCE,
    ),
    "tied": lambda: (Tied(), TOKENS),
    "unused": lambda: (Pooled(Called(6, 8, lambda x, f: x), 6, -1), SEQUENCE),
}
ONE_BY_ONE: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "lstm": lambda: (Pooled(nn.LSTM(6, 4, batch_first=True), 4, -1), SEQUENCE),
    "einsum": lambda: (
        Pooled(Called(6, 8, lambda x, f: torch.einsum("npi,oi->npo", x, f.weight)), 8, -1),
        SEQUENCE,
    ),
    "prelu": lambda: (Pooled(nn.PReLU(5), 6, -1), SEQUENCE),
    "unseen": lambda: (Pooled(Called(6, 6, lambda x, f: Unseen.apply(x, f.bias)), 6, -1), SEQUENCE),
    "scaled addmm": lambda: (
        Pooled(Called(6, 6, lambda x, f: torch.addmm(f.bias, x, f.weight, beta=2)), 6),
        SEQUENCE[:, 0],
    ),
}


class Attending(nn.Module):
    """torch's own attention, of a sequence to itself."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attention, self.first = (
            nn.MultiheadAttention(6, 2, batch_first=batch_first),
            batch_first,
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.first else x.transpose(0, 1)
        x = self.attention(x, x, x, need_weights=False)[0]
        return x if self.first else x.transpose(0, 1)


class Tied(nn.Module):
    """A language model's habit: one table for what goes in and what comes out, learned places."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(5, 6), nn.Embedding(8, 6)
        self.head = nn.Linear(6, 5, bias=False)
        self.head.weight = self.table.weight

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return self.head(torch.tanh(self.table(tokens) + self.places(places))).mean(1)


class Unseen(torch.autograd.Function):
    """A function of the user's, which no torch function mode is told of."""

    @staticmethod
    def forward(context: Any, x: Tensor, bias: Tensor) -> Tensor:
        return x + bias

    @staticmethod
    def backward(context: Any, slope: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return slope, slope.sum((0, 1))


@pytest.mark.parametrize("kind", COVERED)
def test_what_rules_cover(kind: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        study = study_of(*COVERED[kind]())
    assert check(study).one_by_one == ()


@pytest.mark.parametrize("kind", ONE_BY_ONE)
def test_what_no_rule_covers_is_said_and_right(kind: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        study = study_of(*ONE_BY_ONE[kind]())
    found = check(study)
    assert found.one_by_one and not any(name.startswith("head") for name in found.one_by_one)
    assert f"{len(found.one_by_one)} of them one by one" in repr(found)


NETS = ["in_place", "views", "counted", "like_gpt", "clip_image", "clip_text", "timm_vit", "digits"]


@pytest.mark.parametrize("name", [*NETS, "resnet18"])
def test_whole_nets(name: str, build: Callable[[str], Any]) -> None:
    """In single precision, where a rounding may fall to another side of a ReLU."""
    study = build(name).study
    found, true = gradient_norms(study, progress=False), by_hand(study)
    assert torch.allclose(found.values.double(), true, rtol=5e-3, atol=1e-3 * float(true.max()))
    assert torch.allclose(found.total.double(), true.square().sum(0).sqrt(), rtol=1e-3)
    assert found.one_by_one == ()


class OneNumber(nn.Module):
    """The mean of a net's outputs, ``[n]``, or what squeeze leaves of it."""

    def __init__(self, net: nn.Module, squeezed: bool = False) -> None:
        super().__init__()
        self.net, self.squeezed = net, squeezed

    def forward(self, x: Tensor) -> Tensor:
        found = torch.tanh(self.net(x)).mean(1)
        return found.squeeze() if self.squeezed else found


class Regression:
    """One number an example, right within a half."""

    def outputs(self, raw: Any) -> Tensor:
        return raw

    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs.round().long()

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return 0.5 - (outputs - labels).abs()

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return (outputs - labels).square()


class Binary(Regression):
    """One logit an example, labels 0 and 1."""

    def predictions(self, outputs: Tensor) -> Tensor:
        return (outputs > 0).long()

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs * (2 * labels - 1)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, labels.to(outputs), reduction="none")


@pytest.mark.parametrize("task", [Regression(), Binary()])
@pytest.mark.parametrize("kind", COVERED)
def test_outputs_of_one_number(kind: str, task: mv.Task) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, inputs = COVERED[kind]()
        study = study_of(OneNumber(net), inputs, classes=2)
    study.task = task
    assert check(study).one_by_one == ()


def test_a_row_that_squeeze_drops_is_refused() -> None:
    study = study_of(OneNumber(nn.Linear(4, 3), squeezed=True), torch.randn(6, 4))
    study.task = Regression()
    with pytest.raises(ValueError, match=r"a batch of 1 has outputs of shape \(\); the task must"):
        gradient_norms(study)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """A convolution of any kind and a shape it takes."""
    axes = draw(st.sampled_from([1, 2, 2, 2, 3]))
    groups = draw(st.sampled_from([1, 1, 1, 2]))
    channels, units = (groups * draw(st.integers(1, 3)) for _ in range(2))
    some = st.tuples(*[st.integers(1, 3)] * axes)
    kernel, stride, dilation = draw(some), draw(some), draw(some)
    padding: Any = draw(st.tuples(*[st.integers(0, 2)] * axes))
    transposed = draw(st.sampled_from([False, False, False, True]))
    if not transposed and draw(st.integers(0, 4)) == 0:
        padding, stride = "same", (1,) * axes
    shape = tuple(
        d * (k - 1) + draw(st.integers(2, 5)) for d, k in zip(dilation, kernel, strict=True)
    )
    made = getattr(nn, f"Conv{'Transpose' if transposed else ''}{axes}d")
    layer = made(
        *(channels, units, kernel, stride, padding),
        **{"dilation": dilation, "groups": groups, "bias": draw(st.booleans())},
    )
    return layer, (channels, *shape)


@pytest.mark.parametrize("cheap", ["_OF_GRAM", "_OF_GRADIENT"])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drawn=convolutions(), seed=st.integers(0, 99))
def test_convolutions(
    cheap: str, drawn: tuple[nn.Module, tuple[int, ...]], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Gram matrices wherever that can be, and by each example's gradient."""
    for name in ("_OF_GRAM", "_OF_GRADIENT"):
        monkeypatch.setattr(gradient_parts, name, 0 if name == cheap else 10**9)
    layer, shape = drawn
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inputs = torch.randn(3, *shape)
    try:
        units = layer.double()(inputs.double()).shape[1]
    except RuntimeError as error:  # a transposed convolution may have no output left
        assume("too small" in str(error) and False)
    assert check(study_of(Pooled(layer, units), inputs)).one_by_one == ()


def gated(x: Tensor, linear: nn.Module) -> Tensor:
    return interleaved(x, linear) * x[:, :1, :1]


def test_a_rule_that_could_not_be_checked_is_not_used() -> None:
    """The gate is shut for both examples of the check: which rows are whose, nothing has shown."""
    torch.manual_seed(0)
    inputs = torch.randn(6, 5, 6)
    inputs[[0, 2], 0, 0] = 0.0
    found = check(study_of(Pooled(Called(6, 8, gated), 8, -1), inputs))
    assert found.one_by_one == ("layer.linear.bias", "layer.linear.weight")
    assert found.values[0].gt(0).tolist() == [False, True, False, True, True, True]


def test_several_images_an_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Gram matrix holds one image: here it would leave out the products between two."""
    monkeypatch.setattr(gradient_parts, "_OF_GRADIENT", 10**9)
    assert check(study_of(*COVERED["conv, images of a video"]())).one_by_one == ()


def test_sums_that_cancel_keep_their_digits() -> None:
    """Where gradients cancel over positions, a Gram sum would be rounding alone."""
    torch.manual_seed(0)
    a = 1 + 1e-4 * torch.randn(3, 16, 40)
    g = torch.randn(3, 16, 40)
    g -= g.mean(1, keepdim=True)
    true = (g.double().mT @ a.double()).flatten(1).norm(dim=1)
    found = gradient_parts.Product(a, g).squares().sqrt()
    plain = ((a @ a.mT) * (g @ g.mT)).sum((1, 2)).clamp(min=0).sqrt()
    assert torch.allclose(found.double(), true, rtol=1e-3)
    assert not torch.allclose(plain.double(), true, rtol=1e-2)


def small(n: int = 6) -> mv.Study:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    return study_of(model, torch.randn(n, 4))


def test_the_result() -> None:
    study = small()
    found = check(study)
    assert found.values.dtype == found.total.dtype == torch.float64
    assert found.by_module["2"].dtype == torch.float64
    assert torch.allclose(found.values, by_hand(study), rtol=1e-10)
    single = dataclasses.replace(study, model=study.model.float(), inputs=study.inputs.float())
    assert gradient_norms(single, progress=False).total.dtype == torch.float32
    assert found.parameters == ("0.weight", "0.bias", "2.weight", "2.bias")
    assert list(found.by_module) == ["0", "2"]
    squares = found.values.square()
    assert torch.allclose(found.by_module["2"], squares[2:].sum(0).sqrt())
    assert torch.allclose(found.total, squares.sum(0).sqrt())


def test_examples_and_labels() -> None:
    study = small()
    chosen = torch.tensor([4, 1, 1])
    found = gradient_norms(study, chosen, progress=False)
    assert torch.equal(found.examples, chosen)
    assert torch.allclose(found.values, by_hand(study)[:, chosen])
    labels = torch.tensor([2, 2, 0, 0, 1, 1])
    other = gradient_norms(study, labels=labels, progress=False)
    assert torch.allclose(other.values, by_hand(study, labels))
    assert not torch.allclose(other.values, by_hand(study))
    assert torch.allclose(
        gradient_norms(study, torch.tensor([3]), progress=False).values, by_hand(study)[:, [3]]
    )


def test_a_linear_model_in_closed_form() -> None:
    """|softmax − onehot| for the bias, times |x| for the weight; GraNd of the whole."""
    torch.manual_seed(0)
    study = study_of(nn.Linear(5, 4), torch.randn(7, 5), classes=4)
    with torch.no_grad():
        error = study.model(study.inputs).softmax(1) - F.one_hot(study.labels, 4)
    found = gradient_norms(study, progress=False)
    norm, length = error.norm(dim=1), study.inputs.norm(dim=1)
    assert torch.allclose(found.values, torch.stack([norm * length, norm]), rtol=1e-5)
    assert torch.allclose(found.total, norm * (length**2 + 1).sqrt(), rtol=1e-5)


def test_frozen_parameters_are_left_out() -> None:
    study = small()
    study.model[0].weight.requires_grad_(False)
    found = check(study)
    assert found.parameters == ("0.bias", "2.weight", "2.bias")
    study.model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the model requires a gradient"):
        gradient_norms(study)


def test_chunks_of_any_size_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    study = small(11)
    found = []
    for size in (1, 2, 3, 64):
        monkeypatch.setattr(ghost_norms, "chunk_size", lambda *_, size=size, **__: size)
        found.append(gradient_norms(study, progress=False).values)
    assert all(torch.allclose(one, found[0], rtol=1e-6) for one in found)


class Fork(nn.Module):
    """Takes another path for a batch with a large input in it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) if x.max() < 5 else torch.where(x[:, :1] < 5, self.one(x), self.two(x))


def test_another_path_for_some_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(12, 4)
    inputs[10, 0] = 9.0
    study = study_of(Fork(), inputs)
    monkeypatch.setattr(ghost_norms, "chunk_size", lambda *_, **__: 4)
    found = check(study)
    assert set(found.one_by_one) == set(found.parameters)
    assert found.values[0, 10] == 0 < found.values[2, 10]


def test_memory_that_runs_out() -> None:
    study, allowed = small(12), 5
    forward = study.model.forward

    def limited(x: Tensor) -> Tensor:
        if len(x) > allowed:
            raise torch.OutOfMemoryError
        return forward(x)

    study.model.forward = limited
    with pytest.warns(
        UserWarning, match="out of memory with chunks of 12 examples; going on with 6"
    ):
        with pytest.warns(UserWarning, match="going on with 3"):
            found = gradient_norms(study, progress=False)
    assert torch.allclose(found.values, by_hand(study))


class Largest(TorchDispatchMode):
    """The size of the largest tensor that was made."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor):
            self.size = max(self.size, found.numel())
        return found


def test_no_gradient_of_each_example_is_made() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Tanh(), nn.Flatten(), nn.Linear(512, 400))
    study = study_of(nn.Sequential(model, nn.Linear(400, 3)), torch.randn(30, 3, 6, 6))
    with Largest() as largest:
        gradient_norms(study, progress=False)
    assert largest.size == 512 * 400


class Mixing(nn.Module):
    """Subtracts the batch's mean, or draws random numbers."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.linear, self.how = nn.Linear(4, 3), how

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x - x.mean(0) if self.how == "mean" else x + torch.randn(x.shape).mean())


class Contrast(mv.Classification):
    """A loss in which every example has its part."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return super().loss(outputs, labels) + outputs.std()


def test_examples_that_mix_are_refused() -> None:
    for how in ("mean", "random"):
        with pytest.raises(ValueError, match="an example has another output alone than in a batch"):
            gradient_norms(study_of(Mixing(how), torch.randn(4, 4)))
    study = small()
    study.task = Contrast()
    with pytest.raises(ValueError, match="an example has another loss alone than in a batch"):
        gradient_norms(study)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"examples": torch.tensor([9])}, "examples names 9; this study has 6 examples, 0 to 5"),
        ({"examples": torch.tensor([], dtype=torch.int64)}, "no examples to run"),
        ({"examples": torch.ones(5, dtype=torch.bool)}, "mask of shape .* give a mask"),
        ({"labels": torch.zeros(5)}, r"labels has shape \(5,\) for 6 examples"),
        ({"labels": torch.full((6,), 3)}, "the labels hold 3"),
    ],
)
def test_bad_input(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gradient_norms(small(), progress=False, **change)


def test_a_model_without_gradients() -> None:
    study = small()
    study.model.forward = torch.no_grad()(study.model.forward)
    with pytest.raises(ValueError, match="the model's outputs carry no gradient"):
        gradient_norms(study)


def test_no_trace_is_left() -> None:
    torch.manual_seed(1)
    model = Fragile().eval()
    study = mv.Study(model, torch.randn(9, 1, 5, 5), torch.arange(9) % 3, {"test": range(9)})
    model.random = True
    with no_trace(model):
        gradient_norms(study, progress=False)
        for wait in (0, 2, 4):
            model.error, model.wait = KeyboardInterrupt(), wait
            with pytest.raises(KeyboardInterrupt):
                gradient_norms(study, progress=False)
        model.error = None


def test_the_benchmark_compares_like_with_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """vmap(grad), the loop and ours agree; what is promised is there."""
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(12, 6, generator=generator), torch.arange(12) % 3
    model = mv.models.MLP((6, 5, 3), seed=0).eval()
    one = models.Subject("mlp", model, inputs, labels, {"fc1": "relu1"}, -1, 12, 2)
    study = one.study(12)
    for peer in (benchmark.loop_norms(study), benchmark.vmap_norms(study, 5).detach()):
        assert torch.allclose(gradient_norms(study, progress=False).values, peer, rtol=1e-4)
    monkeypatch.setitem(models.SUBJECTS, "mlp", lambda: one)
    monkeypatch.setitem(benchmark.EXAMPLES, "mlp", (12, 6))
    found = benchmark.measure(["mlp"], repeats=1)["mlp"]
    assert found["max_error"] < 1e-4 and found["one_by_one"] == 0 and found["vmap_chunk"] == 4
    assert found["ratio_vmap"] == pytest.approx(found["vmap_ms"] / found["ours_ms"], rel=0.02)
    assert found["ratio_loop"] == pytest.approx(found["loop_ms"] / found["ours_ms"], rel=0.02)


def test_products_are_those_of_the_gradients_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    study = small()
    parameters = list(study.model.parameters())
    rows = []
    for k in torch.arange(6)[:, None]:
        loss = F.cross_entropy(study.model(study.inputs[k]), study.labels[k])
        gradients = torch.autograd.grad(loss, parameters)
        rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    table = torch.stack(rows)
    left, right = torch.tensor([4, 0, 4]), torch.tensor([1, 4, 5, 3])
    wanted = table[left] @ table[right].T
    for block in (1, 100, 2**20):
        monkeypatch.setattr("memviz.engine.gradients._products._BLOCK", block)
        found = gradient_products(study, left, right, progress=False)
        assert found.dtype == torch.float64
        assert torch.allclose(found, wanted, rtol=1e-10)
    norms = gradient_norms(study, progress=False).total
    own = gradient_products(study, torch.arange(6), torch.arange(6), progress=False).diagonal()
    assert torch.allclose(own.sqrt(), norms, rtol=1e-10)
    assert all(parameter.grad is None for parameter in parameters)
    study.model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the model requires a gradient"):
        gradient_products(study, left, right)


def test_float_labels_are_not_cut_to_whole_numbers() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 1).eval()
    labels = torch.randn(6)
    study = mv.Study(
        model, torch.randn(6, 4), labels, {"test": range(6)}, task=mv.tasks.Regression(0.5)
    )
    assert torch.allclose(gradient_norms(study, progress=False).values.double(), by_hand(study))
    other = labels + 0.25
    found = gradient_norms(study, labels=other, progress=False)
    assert torch.allclose(found.values.double(), by_hand(study, other[:, None]))
