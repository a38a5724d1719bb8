"""``mv.ablate``: blocks in blocks, studies in blocks, odd models, and what is refused."""

import copy
import pickle
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn import functional as F
from torch.overrides import _get_current_function_mode_stack
from torch.utils.checkpoint import checkpoint

import memviz as mv
from tests.support.traces import no_trace

HOWS = ["zero", "filter", "scale 0.5", "constant 2", "mean"]


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 3)]
    return nn.Sequential(*layers).eval()


@pytest.fixture
def inputs() -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def study(net: nn.Module, inputs: Tensor) -> mv.Study:
    groups = {"memorized": [0, 1], "clean": range(2, 6)}
    return mv.Study(net, inputs, torch.arange(6) % 3, groups)


def near(given: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(given, wanted, atol=1e-6)


def setting(module: nn.Module, units: list[int], value: float = 0.0, axis: int = -1) -> Any:
    """A plain hook that sets units of a module's output."""
    return module.register_forward_hook(
        lambda _m, _a, out: out.index_fill(axis, torch.tensor(units), value)
    )


def with_hook(module: nn.Module, units: list[int], call: Callable[[], Any]) -> Any:
    handle = setting(module, units)
    try:
        return call()
    finally:
        handle.remove()


# Any rank, any way to call -----------------------------------------------------------------------


@torch.no_grad()
def test_inputs_of_any_rank(net: nn.Module, inputs: Tensor) -> None:
    for x in (inputs, inputs[0], inputs.view(2, 3, 4), inputs[None, None], inputs[:0]):
        wanted = with_hook(net[1], [1, 5], lambda x=x: net(x))
        with mv.ablate(net, "0:1,5"):
            net(inputs)  # of another rank than the next call
            assert near(net(x), wanted)


@torch.no_grad()
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d])
def test_convolutions_without_a_batch_axis(kind: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(kind(3, 3, 3), nn.ReLU(), kind(3, 3, 3)).eval()
    images = torch.randn(3, 3, *[7] * len(model[0].kernel_size))  # batch, channels, positions
    for how in ("zero", "filter", "constant 2"):
        with mv.ablate(model, "0:1 2:2", how):
            together = model(images)
            assert near(model(images[0]), together[0])
            assert near(torch.stack([model(image) for image in images]), together)
        assert not near(together, model(images))


@torch.no_grad()
def test_functions_and_modules_by_hand(net: nn.Module, inputs: Tensor) -> None:
    wanted = with_hook(
        net[1], [2], lambda: with_hook(net[2], [3], lambda: net[2](net[1](net[0](inputs))))
    )
    with mv.ablate(net, "0:2 2:3"):
        first = net[0](inputs)
        assert near(net[2](net[1](first)), wanted)
        hidden = F.relu(F.linear(bias=net[0].bias, input=inputs, weight=net[0].weight))
        assert not hidden[:, 2].any()
        assert near(torch.addmm(net[2].bias, hidden, net[2].weight.t()), wanted)
        held = net[0](inputs)  # nobody reads it inside the block
    assert not held[:, 2].any() and held[:, 1].any()


@torch.no_grad()
def test_an_activation_read_twice_by_hand_is_refused(net: nn.Module, inputs: Tensor) -> None:
    with mv.ablate(net, "0:2"):
        hidden = net[0](inputs)
        gate = torch.sigmoid(hidden)
        with pytest.raises(RuntimeError, match="the place of its units cannot be told"):
            hidden * gate


@torch.no_grad()
def test_other_weights_and_transforms(net: nn.Module, inputs: Tensor) -> None:
    other = {name: 1.5 * weight for name, weight in net.state_dict().items()}
    wanted = with_hook(net[1], [2], lambda: functional_call(net, other, (inputs,)))
    stacked = {name: torch.stack([weight, weight]) for name, weight in other.items()}
    with mv.ablate(net, "0:2"):
        assert near(functional_call(net, other, (inputs,)), wanted)
        assert near(vmap(lambda x: functional_call(net, other, (x,)))(inputs), wanted)
        both = vmap(lambda weights: functional_call(net, weights, (inputs,)))(stacked)
        assert near(both[1], wanted)
        by_torch = torch.autograd.functional.jacobian(net, inputs[0])
        assert near(jacrev(net)(inputs[0]), by_torch)


# Models that are odd -----------------------------------------------------------------------------


class Gated(nn.Module):
    """Reads an activation again after the non-linearity, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.calls = nn.Linear(4, 8), nn.Linear(8, 3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        hidden = self.a(x)
        return self.b(hidden * torch.sigmoid(hidden))


@torch.no_grad()
def test_an_activation_that_is_read_twice(inputs: Tensor) -> None:
    torch.manual_seed(0)
    model = Gated().eval()
    wanted = with_hook(model.a, [3], lambda: model(inputs))
    outer = nn.Sequential(model).eval()
    for call in (model, outer):
        before = model.calls
        with mv.ablate(model, "a:3"):
            assert near(call(inputs), wanted) and near(call(inputs), wanted)
        assert model.calls == before + 2


class FeaturesToo(nn.Module):
    """Returns an activation besides."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        hidden = self.a(x)
        return self.b(F.relu(hidden)), {"features": hidden}


@torch.no_grad()
def test_an_activation_that_is_returned(inputs: Tensor) -> None:
    model = FeaturesToo().eval()
    wanted = with_hook(model.a, [3], lambda: model(inputs))
    with mv.ablate(model, "a:3"):
        logits, more = model(inputs)
    assert near(logits, wanted[0]) and near(more["features"], wanted[1]["features"])


class PathByBatch(nn.Module):
    """One path reads an activation once, the other twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.a(x)
        active = F.gelu(hidden)
        return self.b(active + hidden if len(x) > 3 else active)


@torch.no_grad()
def test_each_call_has_its_own_place(inputs: Tensor) -> None:
    model = PathByBatch().eval()
    twice = with_hook(model.a, [3], lambda: model(inputs))
    once = model.b(F.gelu(model.a(inputs[:3])).index_fill(1, torch.tensor([3]), 1.0))
    with mv.ablate(model, "a:3"):
        for _ in range(2):
            assert near(model(inputs), twice)
    with mv.ablate(model, "a:3", "constant 1"):
        model(inputs)
        assert near(model(inputs[:3]), once)
        model(inputs)
        assert near(model(inputs[:3]), once)


class FirstCall(nn.Module):
    """Makes tables at its first call, in attributes, buffers and a dict, and always drops out."""

    table: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)
        self.angles, self.calls = None, []
        self.cache: dict[int, Tensor] = {}
        self.register_buffer("table", None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(len(x))
        if self.angles is None:
            self.angles = torch.arange(8.0).cos()
        if self.table is None or len(self.table) < len(x):
            self.table = torch.arange(float(len(x)))[:, None].sin()
        if len(x) not in self.cache:
            self.cache[len(x)] = 2 * self.angles
        hidden = F.relu(self.a(x)) * self.cache[len(x)] + self.table[: len(x)]
        return self.b(F.dropout(hidden, 0.3, training=True))


@torch.no_grad()
def test_tables_made_at_the_first_call_and_random_numbers(inputs: Tensor) -> None:
    torch.manual_seed(0)
    model = FirstCall().eval()
    plain = copy.deepcopy(model)

    def calls(model: nn.Module) -> list[Tensor]:
        torch.manual_seed(3)
        return [model(inputs), model(inputs[:2]), model(inputs.repeat(2, 1))]

    # Below every ReLU: the hook stands before it.
    handle = setting(plain.a, [1], -100.0)
    wanted = calls(plain)
    handle.remove()
    with mv.ablate(model, "a:1"):
        for given, right in zip(calls(model), wanted, strict=True):
            assert near(given, right)
    assert model.calls == plain.calls and list(model.cache) == list(plain.cache)


class Tied(nn.Module):
    """Two layers and an embedding with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(8, 8)
        self.a, self.b = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.a.weight = self.b.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.b(F.relu(self.a(self.embed(ids))))


@torch.no_grad()
def test_layers_with_one_weight() -> None:
    torch.manual_seed(0)
    model, ids = Tied().eval(), torch.tensor([[1, 2, 3]])
    for name in ("a", "b"):
        wanted = with_hook(model.get_submodule(name), [1], lambda: model(ids))
        with mv.ablate(model, f"{name}:1"):
            assert near(model(ids), wanted)
    with mv.ablate(model, "a:1"), pytest.raises(RuntimeError, match="a weight that a and b share"):
        F.linear(model.embed(ids), model.b.weight)


class Transposed(nn.Module):
    """Autoencoders whose decoder is the encoder's weight, the other way round."""

    def __init__(self, way: str) -> None:
        super().__init__()
        conv = nn.Conv2d(4, 4, 3, padding=1)
        self.way, self.encoder = way, conv if way == "conv" else nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden, weight = F.relu(self.encoder(x)), self.encoder.weight
        if self.way == "conv":
            return F.conv_transpose2d(hidden, weight, padding=1)
        return F.linear(hidden, weight.t()) if self.way == "linear" else hidden @ weight


@torch.no_grad()
@pytest.mark.parametrize("way", ["linear", "matmul", "conv"])
@pytest.mark.parametrize("how", ["zero", "constant 2", "filter"])
def test_a_transposed_weight_is_no_use_of_the_layer(way: str, how: str) -> None:
    torch.manual_seed(0)
    model = Transposed(way).eval()
    x = torch.randn(3, 4, 5, 5) if way == "conv" else torch.randn(3, 4)
    bias = float(model.encoder.bias[1])
    value = {"zero": -100.0, "constant 2": 2.0, "filter": bias}[how]  # before the ReLU
    with setting(model.encoder, [1], value, -3 if way == "conv" else -1):
        wanted = model(x)
    with mv.ablate(model, "encoder:1", how):
        assert near(model(x), wanted)
    study = mv.Study(model, x, torch.zeros(3), {"test": range(3)}, task=Whole())
    assert near(mv.Replay(study).outputs("encoder:1", how), wanted.flatten(1))


class Whole(mv.tasks.Classification):
    """All that a model returns."""

    def outputs(self, raw: Any) -> Tensor:
        return raw.flatten(1)


class Adapted(nn.Linear):
    """An adapter beside the layer's own map."""

    def __init__(self) -> None:
        super().__init__(4, 8)
        self.down, self.up = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x @ self.down.T @ self.up.T


class Sum(nn.Linear):
    """The bias is added in place."""

    def forward(self, x: Tensor) -> Tensor:
        out = x @ self.weight.T
        out += self.bias
        return out


class Reshaped(nn.Linear):
    """As GPT-2's layers: the map is followed by a view."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.view(-1, 4)).view(*x.shape[:-1], 8)


@torch.no_grad()
@pytest.mark.parametrize("how", ["zero", "constant 2", "scale 0.5", "mean"])
@pytest.mark.parametrize("kind", [Adapted, Sum, Reshaped])
def test_units_are_at_the_end_of_a_layer_as_in_a_sweep(
    kind: type[nn.Linear], how: str, inputs: Tensor
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(kind(*() if kind is Adapted else (4, 8)), nn.ReLU(), nn.Linear(8, 3))
    study = mv.Study(model.eval(), inputs, torch.zeros(6), {"test": range(6)})
    replay = mv.Replay(study)
    swept = replay.outputs("0:1,5", how)
    with mv.ablate(study, "0:1,5", how):
        assert near(model(inputs), swept)
    if kind is not Reshaped and how == "constant 2":
        with setting(model[1], [1, 5], 2.0):
            assert near(replay.outputs("0:1,5", how), model(inputs))
    if how == "zero":
        wanted = with_hook(model[0], [1, 5], lambda: model(inputs))
        assert near(replay.outputs("0:1,5"), wanted)
    if kind is Adapted:
        with mv.ablate(study, "0:1", "filter"), pytest.raises(RuntimeError, match="several calls"):
            model(inputs)


@torch.no_grad()
def test_a_use_that_cannot_be_told_is_refused(net: nn.Module, inputs: Tensor) -> None:
    weight = net[2].weight
    uses: list[Callable[[], Tensor]] = [
        lambda: torch.einsum("bi,oi->bo", net[0](inputs), weight),
        lambda: weight @ net[0](inputs).T,
        lambda: F.linear(net[0](inputs), weight.flip(0)),
    ]
    with mv.ablate(net, "2:1"):
        for use in uses:
            with pytest.raises(RuntimeError, match="the weight of '2' is used outside"):
                use()
        assert near(net[0](inputs)[:, None] * weight, net[0](inputs)[:, None] * weight.clone())


@torch.no_grad()
def test_a_model_that_is_one_module(inputs: Tensor) -> None:
    torch.manual_seed(0)
    layer, attention = nn.Linear(4, 5).eval(), ByKeyword().eval()
    wanted = with_hook(layer, [1], lambda: layer(inputs))
    with mv.ablate(layer, ":1"):
        assert near(layer(inputs), wanted)
    x, without = torch.randn(2, 3, 4), copy.deepcopy(attention)
    without.out_proj.weight[:, 4:] = 0
    with mv.ablate(attention, ":1"):
        assert near(attention(x), without(x))
    model = nn.Sequential(layer).eval()
    with pytest.raises(ValueError, match="layer '' .Sequential. has no units of its own"):
        with mv.ablate(model, ":1"):
            model(inputs)


class ByKeyword(nn.Module):
    """Attention whose every argument is named."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.qkv, self.out_proj = 2, nn.Linear(4, 24), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, 2, 4)).movedim(-3, 0).transpose(-2, -3)
        mixed = F.scaled_dot_product_attention(query=query, key=key, value=value)
        joined = mixed.transpose(-2, -3).flatten(-2)
        return self.out_proj(input=joined)


@torch.no_grad()
def test_heads_by_keyword(inputs: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"attention": ByKeyword()}).eval()
    attention, x = model["attention"], torch.randn(2, 3, 4)
    without = copy.deepcopy(attention)
    without.out_proj.weight[:, 4:] = 0
    with mv.ablate(model, "attention:1"):
        assert near(attention(x), without(x)) and near(attention(x[0]), without(x[0]))


class Unseen(ByKeyword):
    """Mixes its heads, so that none of them enters the projection alone."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(torch.cat([x, x.flip(-1)], -1).sin(), self.out_proj.weight)


@torch.no_grad()
def test_heads_that_are_not_found_are_refused() -> None:
    model = nn.ModuleDict({"attention": Unseen()}).eval()
    model.num_heads = 3
    model["attention"].num_heads = 3  # 8 features are no 3 heads
    with mv.ablate(model, "attention:1"):
        with pytest.raises(RuntimeError, match="'attention' .* were not found in this call"):
            model["attention"](torch.randn(2, 3, 4))


class Checkpointed(nn.Module):
    """Computes a part again for the gradient."""

    def __init__(self, reentrant: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.reentrant = reentrant

    def part(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.a(x))
        gate = self.b(hidden)
        return torch.tanh(hidden + gate * torch.sigmoid(gate))

    def forward(self, x: Tensor) -> Tensor:
        if self.reentrant is None:
            return self.c(self.part(x))
        return self.c(checkpoint(self.part, x, use_reentrant=self.reentrant))


@pytest.mark.parametrize("where", ["inside", "after", "in another thread"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(inputs: Tensor, reentrant: bool, where: str) -> None:
    gradients = []
    for model in (Checkpointed(None).eval(), Checkpointed(reentrant).eval()):
        x = inputs.clone().requires_grad_()
        with mv.ablate(model, "a:1,2 b:3"):
            loss = model(x).square().sum()
            if where == "inside":
                loss.backward()
        if where == "after":
            loss.backward()
        if where == "in another thread":
            thread = threading.Thread(target=loss.backward)
            thread.start()
            thread.join()
        gradients.append([x.grad, *(weight.grad for weight in model.parameters())])
    for given, wanted in zip(*gradients, strict=True):
        assert near(given, wanted)
    assert not gradients[0][1][1].any() and gradients[0][1][0].any()


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(study: mv.Study, how: str, dtype: torch.dtype) -> None:
    model = copy.deepcopy(study.model).to(dtype)
    reference = study.inputs.to(dtype)
    with torch.inference_mode(), mv.ablate(model, "0:1 2:2", how, reference=reference):
        outputs = model(reference)
    assert outputs.dtype == dtype and not torch.equal(outputs, model(reference))
    with torch.no_grad(), mv.ablate(study, "0:1 2:2", how):
        wanted = study.model(study.inputs)
    torch.testing.assert_close(outputs.float(), wanted, atol=2e-2, rtol=2e-2)


def test_autocast(study: mv.Study) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted = with_hook(study.model[1], [1], lambda: study.model(study.inputs))
        with mv.ablate(study, "0:1"):
            assert torch.equal(study.model(study.inputs), wanted)


def test_training_inside_a_block(inputs: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Linear(8, 3)
    )
    before = copy.deepcopy(model.eval())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with mv.ablate(model, "0:1"):
        model.train()
        for _ in range(3):
            optimizer.zero_grad()
            model(inputs).square().sum().backward()
            optimizer.step()
        loss = model(inputs).sum()
    loss.backward()
    assert torch.equal(model[0].weight[1], before[0].weight[1])
    assert not torch.equal(model[0].weight[0], before[0].weight[0])


# Hooks of the user's own -------------------------------------------------------------------------

LOOKS: dict[str, Callable[[Tensor], Any]] = {
    "the tensor": lambda out: out,
    "a copy": lambda out: out.detach().clone(),
    "an array": lambda out: out.detach().cpu().numpy(),
    "a mean": lambda out: out.mean().item(),
}


@torch.no_grad()
@pytest.mark.parametrize("look", LOOKS)
def test_a_hook_that_looks_moves_no_unit(inputs: Tensor, look: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)).eval()
    nn.init.normal_(model[1].bias)
    wanted, seen = with_hook(model[2], [2], lambda: model(inputs)), []
    handles = [
        inner.register_forward_hook(lambda _m, _a, out: seen.append(LOOKS[look](out)))
        for inner in model
    ]
    with mv.ablate(model, "0:2"):
        assert near(model(inputs), wanted)
    assert len(seen) == 4
    for handle in handles:
        handle.remove()


@torch.no_grad()
def test_a_hook_that_ablates_another_unit_of_the_layer(inputs: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3)).eval()
    with setting(model[0], [3], 2.0):
        wanted = with_hook(model[2], [2], lambda: model(inputs))
        with mv.ablate(model, "0:2"):
            assert near(model(inputs), wanted)


@torch.no_grad()
def test_a_hook_is_called_once_for_each_call(inputs: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"attention": ByKeyword()}).eval()
    attention, x, calls = model["attention"], torch.randn(2, 3, 4), []
    with attention.qkv.register_forward_hook(lambda *_: calls.append(1)):
        with mv.ablate(model, "attention:1 attention.qkv:3"):
            attention(x)
            attention(x)
    assert len(calls) == 2


@torch.no_grad()
def test_a_captured_output_layer_is_ablated(net: nn.Module, inputs: Tensor) -> None:
    seen: list[Tensor] = []
    with net[4].register_forward_hook(lambda _m, _a, out: seen.extend([out, out.clone()])):
        with mv.ablate(net, "4:1"):
            net(inputs)
    assert not seen[0][:, 1].any() and not seen[1][:, 1].any() and seen[1][:, 0].any()


# Blocks in blocks --------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("how", HOWS)
def test_blocks_add_up(study: mv.Study, how: str) -> None:
    model, x = study.model, study.inputs
    union = mv.Replay(study).outputs("0:1,2,3 2:0,4", how)
    with mv.ablate(study, "0:1,2 2:0", how):
        outer = model(x)
        with mv.ablate(study, "0:2,3 2:4", how):
            assert near(model(x), union)
        assert torch.equal(model(x), outer)


@torch.no_grad()
def test_blocks_on_a_part_of_a_model(net: nn.Module, inputs: Tensor) -> None:
    whole = nn.ModuleDict({"net": net}).eval()
    with mv.ablate(net, "0:1,2"):
        wanted = net(inputs)
    with mv.ablate(whole, "net.0:1"), mv.ablate(net, "0:1,2"):
        assert near(net(inputs), wanted)


@torch.no_grad()
def test_different_interventions(net: nn.Module, inputs: Tensor) -> None:
    with (
        mv.ablate(net, "0:1"),
        mv.ablate(net, "0:2", "constant 1"),
        mv.ablate(net, "2:1", "filter"),
    ):
        given = net(inputs)
        with pytest.raises(ValueError, match="unit 0:2 is already ablated by 'constant 1'"):
            with mv.ablate(net, "0:2,3"):
                raise AssertionError("the block must not begin")
        assert torch.equal(net(inputs), given)
    hidden = F.relu(net[0](inputs))
    hidden[:, 1], hidden[:, 2] = 0, 1
    hidden = net[2](hidden)
    hidden[:, 1] = net[2].bias[1]
    assert near(given, net[4](net[3](hidden)))


@pytest.mark.parametrize("outer", HOWS)
@pytest.mark.parametrize("how", HOWS)
def test_a_study_in_a_block_is_of_the_ablated_model(study: mv.Study, how: str, outer: str) -> None:
    fixed = "0:1 2:3"

    def block() -> AbstractContextManager[Any]:
        return mv.ablate(study, fixed, outer)

    with block():
        effects = mv.sweep(study, how=how, progress=False)
        replay = mv.Replay(study)
        reading = mv.readout(study, "0:4 2:5", how, random_draws=1)
        path = mv.greedy(study, size=2, how=how, budget=8, random_draws=1, progress=False)
    labels, task = study.labels, study.task
    with torch.no_grad(), block():
        clean = study.model(study.inputs)
        assert near(replay.clean, clean)
        # A mean is that of the ablated model here; within a block it is that of the plain one.
        for row, unit in enumerate(effects.units) if how != "mean" else ():
            if unit in mv.UnitSet.parse(fixed):
                continue
            with mv.ablate(study, [unit], how):
                change = task.margin(study.model(study.inputs), labels) - task.margin(clean, labels)
            assert near(effects.margin_change[row], change)
        if how != "mean":
            with mv.ablate(study, "0:4 2:5", how):
                after = study.model(study.inputs)
            assert torch.equal(reading.after, after.argmax(1))
            left = path.units - mv.UnitSet.parse(fixed)
            with mv.ablate(study, left, how):
                right = float((study.model(study.inputs).argmax(1) == labels)[:2].double().mean())
            assert path.chosen[-1, 0] == right
    assert torch.equal(reading.before, clean.argmax(1))


@torch.no_grad()
def test_a_study_in_a_block_of_a_model_that_reads_twice(inputs: Tensor) -> None:
    torch.manual_seed(0)
    model = Gated().eval()
    study = mv.Study(model, inputs, torch.arange(6) % 3, {"test": range(6)})
    with mv.ablate(model, "a:1"):
        effects = mv.sweep(study, "a:2-5", progress=False)
    for row in range(4):
        handle = setting(model.a, [1])
        clean = study.task.margin(model(inputs), study.labels)
        handle.remove()
        handle = setting(model.a, [1, row + 2])
        change = study.task.margin(model(inputs), study.labels) - clean
        handle.remove()
        assert near(effects.margin_change[row], change)


def test_what_was_recorded_of_the_whole_model_is_recorded_again(study: mv.Study) -> None:
    replay = mv.Replay(study)
    clean = replay.outputs("0:4").clone()
    with mv.ablate(study, "0:1 2:3", "constant 3"):
        with torch.no_grad(), mv.ablate(study, "0:4"):
            wanted = study.model(study.inputs)
        assert near(replay.outputs("0:4"), wanted) and not near(clean, wanted)
        with torch.no_grad():
            assert near(replay.outputs(""), study.model(study.inputs))
    assert near(replay.outputs("0:4"), clean)


def test_a_file_of_effects_is_of_one_model(study: mv.Study, tmp_path: Path) -> None:
    file = tmp_path / "effects.safetensors"
    with mv.ablate(study, "0:1"):
        inside = mv.sweep(study, path=file, progress=False)
    with pytest.raises(ValueError, match="another"):
        mv.sweep(study, path=file, progress=False)
    with mv.ablate(study, "0:2"), pytest.raises(ValueError, match="another"):
        mv.sweep(study, path=file, progress=False)
    with mv.ablate(study, "0:1"):
        again = mv.sweep(study, path=file, progress=False)
    assert torch.equal(inside.margin_change, again.margin_change)


# Values from examples ----------------------------------------------------------------------------


@torch.no_grad()
def test_the_mean_in_calls_of_any_rank(study: mv.Study) -> None:
    model, x = study.model, study.inputs
    mean = float(F.relu(model[0](x))[:, 1].mean())
    with mv.ablate(study, "0:1", "mean"):
        calls = [model(x[0]), model(x[None]), model[2](model[1](model[0](x)))]
    handle = setting(model[1], [1], mean)
    wanted = [model(x[0]), model(x[None]), model[2](model[1](model[0](x)))]
    handle.remove()
    for given, right in zip(calls, wanted, strict=True):
        assert near(given, right)


@torch.no_grad()
def test_resample_needs_a_batch_of_examples(study: mv.Study) -> None:
    model, x = study.model, study.inputs
    with mv.ablate(study, "0:1", "resample 1"):
        assert near(model(x)[:3], model(x[:3]))
        assert near(model(x[:, None])[:, 0], model(x))
        for call in (lambda: model(x[0]), lambda: model[1](model[0](x))):
            with pytest.raises(RuntimeError, match="needs a call of the model itself"):
                call()


@torch.no_grad()
def test_the_mean_at_another_place_is_refused(study: mv.Study) -> None:
    model, x = study.model, study.inputs
    with mv.ablate(study, "0:1", "mean"):
        hidden = model[0](x)
        with pytest.raises(
            RuntimeError, match="takes its values after 'linear > relu' of layer '0'"
        ):
            hidden.square()


# What cannot be covered --------------------------------------------------------------------------


@torch.no_grad()
def test_another_thread_is_not_ablated(study: mv.Study) -> None:
    clean, answers = study.model(study.inputs), []
    with mv.ablate(study, "0:1"):
        thread = threading.Thread(target=lambda: answers.append(study.model(study.inputs)))
        thread.start()
        thread.join()
    assert torch.equal(answers[0], clean)


@torch.no_grad()
def test_the_engine_in_another_thread_is_not_ablated(study: mv.Study) -> None:
    clean, answers = study.model(study.inputs), []
    with mv.ablate(study, "0:1"):
        thread = threading.Thread(target=lambda: answers.append(mv.Replay(study).clean))
        thread.start()
        thread.join()
    assert near(answers[0], clean)


def test_copies_made_inside_are_refused(net: nn.Module) -> None:
    with mv.ablate(net, "0:1"):
        for make in (copy.deepcopy, pickle.dumps):
            for part in (net, net[0]):
                with pytest.raises(RuntimeError, match="the model is copied inside"):
                    make(part)
        assert copy.deepcopy(net[2]).weight.shape == (8, 8)
        assert list(net.state_dict()) == list(copy.deepcopy(net.state_dict()))


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")
def test_scripted_and_exported_copies_are_refused(net: nn.Module, inputs: Tensor) -> None:
    scripted, traced = torch.jit.script(net), torch.jit.trace(net, inputs)
    exported = torch.export.export(net, (inputs,)).module()
    with mv.ablate(net, "0:1"):
        for other in (scripted, traced):
            with pytest.raises(RuntimeError, match="a scripted copy of the model was called"):
                other(inputs)
        with pytest.raises(RuntimeError, match="an exported copy of the model was called"):
            exported(inputs)
    with pytest.raises(ValueError, match="part of a scripted module"):
        with mv.ablate(nn.ModuleDict({"net": scripted}).eval(), "net.0:1"):
            raise AssertionError("the block must not begin")


@torch.no_grad()
def test_compiled_copies_run_as_they_are_written(net: nn.Module, inputs: Tensor) -> None:
    wanted = with_hook(net[1], [1], lambda: net(inputs))
    compiled = torch.compile(net, backend="eager")
    clean = compiled(inputs)
    with mv.ablate(net, "0:1"):
        assert near(compiled(inputs), wanted)
    assert near(compiled(inputs), clean)


class Custom(nn.Linear):
    """Computes its output where no mode sees it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy() @ self.weight.detach().numpy().T)


@torch.no_grad()
def test_a_layer_that_torch_does_not_compute(inputs: Tensor) -> None:
    model = nn.Sequential(Custom(4, 8), nn.ReLU()).eval()
    with mv.ablate(model, "0:1"), pytest.raises(RuntimeError, match="something other than a torch"):
        model(inputs)


# Afterwards --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_nothing_is_left(net: nn.Module, inputs: Tensor, error: type[BaseException]) -> None:
    with no_trace(net):
        with pytest.raises(error), mv.ablate(net, "0:1"), mv.ablate(net, "2:1", "filter"):
            held = net[0](inputs)
            raise error
        part = Skips(net).eval()
        with pytest.raises(ValueError, match="'net.4' .* never reached"):
            with mv.ablate(part, "net.4:0"):
                part(inputs)
    assert not held[:, 1].any()
    assert not _get_current_function_mode_stack()
    assert "__call__" not in vars(torch.jit.ScriptModule)
    assert all("forward" not in vars(module) for module in net.modules())


class Skips(nn.Module):
    """Has a layer that it does not call."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


@torch.no_grad()
def test_blocks_may_end_in_any_order(net: nn.Module, inputs: Tensor) -> None:
    clean, second = net(inputs), with_hook(net[1], [2], lambda: net(inputs))
    blocks = [mv.ablate(net, f"0:{unit}") for unit in (1, 2)]
    for block in blocks:
        block.__enter__()
    blocks[0].__exit__(None, None, None)
    assert near(net(inputs), second)
    blocks[1].__exit__(None, None, None)
    assert torch.equal(net(inputs), clean)
    assert not _get_current_function_mode_stack()
