"""The stand-in for a GPU does what torch documents of CUDA, and the CPU's kernels do the rest."""

import copy
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from tests.support.second_device import DEVICE, NAME

Call = Callable[..., object]

# g, gn, gm, gi: values, a number, a mask and indices on the device; c, n, m, i: on the CPU.
CALLS: dict[str, Call] = {
    "add": lambda g, c, **_: g + c,
    "add a number": lambda g, n, **_: g + n,
    "add to a number": lambda g, n, **_: n + g,
    "add a number of the device to the CPU's": lambda c, gn, **_: c + gn,
    "add in place": lambda g, c, **_: g.add_(c),
    "add a number in place": lambda g, n, **_: g.add_(n),
    "add in place on the CPU": lambda g, c, **_: c.add_(g),
    "add in place to a number of the CPU": lambda gn, n, **_: n.add_(gn),
    "multiply by a whole number": lambda g, n, **_: g * n.long(),
    "power": lambda g, n, **_: g**n,
    "equal values": lambda g, c, **_: g == c,
    "maximum with a number": lambda g, n, **_: torch.maximum(g, n),
    "maximum": lambda g, c, **_: torch.maximum(g, c),
    "clamp": lambda g, c, **_: g.clamp(min=c),
    "lerp": lambda g, n, **_: torch.lerp(g, g, n),
    "fill": lambda g, n, **_: g.fill_(n),
    "where": lambda g, gm, c, **_: torch.where(gm, g, c),
    "where with a number": lambda g, gm, n, **_: torch.where(gm, g, n),
    "where by a mask of the CPU": lambda g, m, **_: torch.where(m, g, g),
    "masked fill": lambda g, gm, n, **_: g.masked_fill(gm, n),
    "masked fill by a mask of the CPU": lambda g, m, **_: g.masked_fill(m, 0.0),
    "matrix product": lambda g, c, **_: g @ c.T,
    "addmm": lambda g, c, **_: torch.addmm(c[:, :3], g, g.T),
    "linear": lambda g, c, **_: F.linear(g, c),
    "batch norm": lambda g, c, **_: F.batch_norm(g, c[0], c[0].exp()),
    "cross-entropy": lambda g, i, **_: F.cross_entropy(g[:2], i),
    "cat": lambda g, c, **_: torch.cat([g, c]),
    "stack": lambda g, c, **_: torch.stack([g, c]),
    "index select": lambda g, i, **_: g.index_select(0, i),
    "gather": lambda g, i, **_: g.gather(0, i[:, None]),
    "scatter": lambda g, i, **_: g.scatter(0, i[:, None], g),
    "take": lambda g, i, **_: g.take(i),
    "embedding": lambda g, i, **_: F.embedding(i, g),
    "is in": lambda gi, i, **_: torch.isin(gi, i),
    "bucketize": lambda g, c, **_: torch.bucketize(g, c[0].cumsum(0)),
    "copy back": lambda g, c, **_: c.copy_(g),
    "bring back": lambda g, c, **_: g.cpu() + c,
    "clone": lambda g, **_: g.clone(),
}
# What fake tensors can't say; the documentation and CUDA's own messages do.
BY_HAND: dict[str, tuple[Call, str]] = {
    "index by indices of the CPU": (lambda g, i, **_: g[i], ""),
    "index by a mask of the CPU": (lambda g, m, **_: g[m], ""),
    "index": (lambda g, gi, **_: g[gi], ""),
    "index the CPU's": (lambda c, gi, **_: c[gi], "indices should be either on cpu or on the same"),
    "set rows": (lambda g, i, **_: g.__setitem__(i, g[:2].clone()), ""),
    "set rows to a number": (lambda g, gi, n, **_: g.index_put((gi,), n), ""),
    "set rows to the CPU's": (lambda g, i, c, **_: g.index_put((i,), c[:2]), "same device"),
    # Torch's own iterator refuses this one, whose code is the same for all devices.
    "clamp by a number": (lambda g, n, **_: g.clamp(min=n), "same device"),
    "stack numbers": (lambda gn, n, **_: torch.stack([gn, n]), "same device"),
    "copy": (lambda g, c, **_: g.copy_(c), ""),
    "convolution": (lambda g, c, **_: F.conv1d(g[None], c[:, :, None]), "same device"),
    "equal": (lambda g, c, **_: torch.equal(g, c), "same device"),
    "numpy": (lambda g, **_: g.numpy(), r"Use Tensor.cpu\(\)"),
    "draw": (lambda g, **_: torch.rand_like(g), ""),
    "draw by the CPU's": (
        lambda **_: torch.rand(3, device=DEVICE, generator=torch.Generator()),
        "Expected a 'standin' device type for generator but found 'cpu'",
    ),
    "draw in place by the CPU's": (
        lambda g, **_: g.bernoulli_(0.5, generator=torch.Generator()),
        "Expected a 'standin' device type for generator but found 'cpu'",
    ),
}


def given(device: torch.device | str, *, fake: bool = False) -> dict[str, Tensor]:
    """What the calls are made with; fake tensors have no values to copy."""
    values, mask = torch.arange(1.0, 13).view(3, 4), torch.arange(12).view(3, 4) % 2 > 0
    number, indices = torch.full((), 2.0), 2 * torch.arange(2)
    of_device = zip(("g", "gm", "gn", "gi"), (values, mask, number, indices), strict=True)
    on = {name: torch.empty_like(value, device=device) for name, value in of_device}
    if not fake:
        for name, value in zip(on, (values, mask, number, indices), strict=True):
            on[name].copy_(value)
    return {**on, "c": values.clone(), "m": mask, "n": number, "i": indices}


class TestRules:
    @pytest.mark.parametrize("call", CALLS)
    def test_mixes_what_torch_s_fake_cuda_tensors_mix(self, call: str) -> None:
        torch._C._ensureCUDADeviceGuardSet()
        with FakeTensorMode(allow_non_fake_inputs=True):
            known = given("cuda", fake=True)
            try:
                CALLS[call](**known)
                mixes = True
            except RuntimeError:
                mixes = False
        if mixes:
            CALLS[call](**given(DEVICE))
        else:
            with pytest.raises(RuntimeError, match="on the same device|doesn't match"):
                CALLS[call](**given(DEVICE))

    @pytest.mark.parametrize("call", BY_HAND)
    def test_mixes_what_cuda_mixes(self, call: str) -> None:
        make, message = BY_HAND[call]
        if message:
            with pytest.raises((RuntimeError, TypeError), match=message):
                make(**given(DEVICE))
        else:
            make(**given(DEVICE))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")
@pytest.mark.parametrize("call", [*CALLS, *BY_HAND])
def test_a_gpu_gives_the_same_verdict(call: str) -> None:
    verdicts = []
    for device in (torch.device("cuda", 0), DEVICE):
        try:
            (CALLS.get(call) or BY_HAND[call][0])(**given(device))
            verdicts.append("mixed")
        except (RuntimeError, TypeError):
            verdicts.append("refused")
    assert verdicts[0] == verdicts[1]


class TestTensors:
    def test_views_share_the_memory_of_their_tensor(self) -> None:
        whole = torch.zeros(3, 4, device=DEVICE)
        part = whole[1:, ::2]
        part += 1
        assert part._base is whole and part.stride() == (4, 2) and part.storage_offset() == 4
        assert part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr() != 0
        assert whole.tolist() == [[0] * 4, [1, 0, 1, 0], [1, 0, 1, 0]]

    def test_a_move_is_a_copy(self) -> None:
        here = torch.zeros(3)
        there = here.to(DEVICE)
        there += 1
        back = there.cpu()
        back += 1
        assert type(there) is Tensor and (there.device, there.is_cpu) == (DEVICE, False)
        assert [here.tolist(), there.tolist(), back.tolist()] == [[0] * 3, [1] * 3, [2] * 3]

    def test_memory_outlives_the_tensor_that_made_it(self) -> None:
        rows = [torch.full((1000,), float(i), device=DEVICE)[::7] for i in range(50)]
        for _ in range(50):
            torch.full((1000,), -1.0, device=DEVICE)
        assert [row.unique().tolist() for row in rows] == [[float(i)] for i in range(50)]

    def test_copies_of_a_model_are_its_own(self) -> None:
        model = nn.BatchNorm1d(3).to(DEVICE)
        other = copy.deepcopy(model)
        with torch.no_grad():
            for tensor in other.state_dict().values():
                tensor.add_(1)
        assert model.running_mean.tolist() == [0] * 3 and other.running_mean.tolist() == [1] * 3
        assert model.weight.tolist() == [1] * 3 and other.weight.device == DEVICE

    def test_is_saved_and_loaded(self, tmp_path: Path) -> None:
        saved = {"a": torch.arange(6, device=DEVICE).view(2, 3)}
        save_file(saved, tmp_path / "a.safetensors")
        torch.save(saved, tmp_path / "a.pt")
        loaded = [
            load_file(tmp_path / "a.safetensors"),
            torch.load(tmp_path / "a.pt", map_location="cpu"),
        ]
        assert all(own["a"].equal(torch.arange(6).view(2, 3)) for own in loaded)

    def test_draws_from_a_generator_of_its_own(self) -> None:
        torch.manual_seed(3)
        there, here = torch.rand(4, device=DEVICE), torch.rand(4)
        assert there.tolist() == here.tolist()  # both were seeded, neither moved the other on
        assert torch.rand(4, device=DEVICE).tolist() == torch.rand(4).tolist() != here.tolist()
        state = torch.standin.get_rng_state()  # type: ignore[attr-defined]
        drawn = F.dropout(torch.ones(50, device=DEVICE))
        torch.standin.set_rng_state(state)  # type: ignore[attr-defined]
        assert torch.equal(drawn, F.dropout(torch.ones(50, device=DEVICE)))

    def test_serves_other_threads(self) -> None:
        sums: list[float] = []
        thread = threading.Thread(
            target=lambda: sums.append(torch.ones(4, device=DEVICE).sum().item())
        )
        thread.start()
        thread.join()
        assert sums == [4.0]

    def test_inference_tensors_stay_inference_tensors(self) -> None:
        with torch.inference_mode():
            assert (torch.ones(2, device=DEVICE) + 1).is_inference()
        assert not (torch.ones(2, device=DEVICE) + 1).is_inference()


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3, groups=2),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(24, 7),
        nn.LayerNorm(7),
        nn.Softmax(1),
    )


def test_a_trained_step_is_the_cpu_s_bit_for_bit() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        here, inputs, labels = network(), torch.randn(5, 3, 8, 8), torch.arange(5)
    there = copy.deepcopy(here).to(DEVICE)
    for model, device in ((here, "cpu"), (there, NAME)):
        optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs.to(device)), labels.to(device)).backward()
            optimizer.step()
    for name, value in here.state_dict().items():
        assert there.state_dict()[name].device == DEVICE
        assert torch.equal(there.state_dict()[name].cpu(), value), name
    for own, other in zip(here.parameters(), there.parameters(), strict=True):
        assert torch.equal(own.grad, other.grad.cpu())


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.svd()[1],
        lambda x: x.sort(1, descending=True)[1],
        lambda x: x.topk(2)[0],
        lambda x: x.nonzero(),
        lambda x: x.clone().remainder_(0.3),
        lambda x: x.unique(return_inverse=True)[1],
        lambda x: x.cumsum(0).logsumexp(1),
        lambda x: torch.einsum("ij,kj->ik", x, x).log_softmax(0),
        lambda x: torch.func.vmap(torch.func.grad(lambda row: row.square().sum()))(x),
        lambda x: torch.linalg.solve(x @ x.T, x),
        lambda x: x.to(torch.bfloat16) @ x.T.to(torch.bfloat16),
        lambda x: torch.nn.utils.rnn.pad_sequence([x, x[:2]]),
        lambda x: x.double().histc(5),
        lambda x: F.interpolate(x[None, None], scale_factor=2, mode="bilinear"),
        lambda x: F.embedding_bag(torch.zeros(2, 2, dtype=torch.int64, device=x.device), x),
    ],
)
def test_operations_are_the_cpu_s_bit_for_bit(call: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    there = call(x.to(DEVICE))
    assert there.device == DEVICE and torch.equal(there.cpu(), call(x))
