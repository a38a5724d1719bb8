"""Example-tied dropout: masks of the example alone, closed forms of its modes, and the engine."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import memviz as mv
from memviz.models.convnet import ConvNet
from memviz.models.mlp import MLP
from memviz.models.resnet9 import ResNet9
from memviz.study import Study
from memviz.training.batch_norm import recalibrate_batch_norm
from memviz.training.example_tied_dropout import (
    ExampleTiedDropout,
    example_ids,
    insert_example_tied_dropout,
    set_mode,
    uniform,
)
from memviz.training.loop import train

IDS = torch.arange(4000)


def splitmix(seed, *parts):
    """SplitMix64's finalizer over the parts, in Python's own integers."""
    state = seed % 2**64

    def mixed(z):
        z = (z + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    for part in parts:
        state = mixed(state) ^ (part % 2**64)
    return (mixed(state) >> 11) / 2**53


@settings(max_examples=100, deadline=None)
@given(*[st.integers(-(2**63), 2**63 - 1) for _ in range(4)])
def test_the_hash_equals_splitmix_in_pythons_integers(seed, layer, example, channel):
    found = uniform(seed, layer, torch.tensor([example]), torch.tensor([channel]))
    assert found.item() == splitmix(seed, layer, example, channel)


def test_a_mask_depends_on_seed_layer_and_id_alone():
    dropout = ExampleTiedDropout(40, layer=1)
    masks = dropout.own_masks(IDS, 40)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    order = torch.randperm(4000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(dropout.own_masks(IDS[order], 40), masks[order])
    assert torch.equal(ExampleTiedDropout(40, layer=1).own_masks(IDS[7:8], 40), masks[7:8])
    assert torch.equal(torch.get_rng_state(), before)
    for other in (ExampleTiedDropout(layer=2), ExampleTiedDropout(layer=1, seed=1)):
        # Independent masks agree where both keep or both drop: .01 + .81 of the channels.
        agree = (other.own_masks(IDS, 40) == masks)[:, 8:].double().mean()
        assert agree == pytest.approx(0.82, abs=3 * math.sqrt(0.82 * 0.18 / (4000 * 32)))


@pytest.mark.parametrize(("general", "memory"), [(0.2, 0.1), (0.5, 0.3), (0.0, 0.1)])
def test_kept_channels_are_binomial_and_two_examples_share_their_square(general, memory):
    channels, n = 50, len(IDS)
    masks = ExampleTiedDropout(channels, general, memory, layer=0).own_masks(IDS, channels)
    first = math.floor(general * channels)
    assert masks[:, :first].all()
    kept = masks[:, first:].double()
    trials = channels - first
    count = kept.sum(1)
    variance = trials * memory * (1 - memory)
    assert count.mean().item() == pytest.approx(trials * memory, abs=3 * math.sqrt(variance / n))
    # Standard error of a variance, by the binomial's fourth moment.
    fourth = variance * (1 + 3 * (trials - 2) * memory * (1 - memory))
    error = math.sqrt((fourth - variance**2) / n)
    assert count.var().item() == pytest.approx(variance, abs=3 * error)
    shared = (kept[::2] * kept[1::2]).mean().item()
    error = math.sqrt(memory**2 * (1 - memory**2) / (n / 2 * trials))
    assert shared == pytest.approx(memory**2, abs=3 * error)
    # No channel is anybody's favourite.
    per_channel = kept.mean(0)
    assert (per_channel - memory).abs().max() < 5 * math.sqrt(memory * (1 - memory) / n)


@pytest.mark.parametrize(
    ("mode", "compensation", "general", "memory"),
    [
        ("scaled", "none", 1.0, 0.1),
        ("dropped", "none", 1.0, 0.0),
        ("dropped", "expected", (2 + 0.1 * 8) / 2, 0.0),
        ("dropped", "released", (0.2 + 0.1) / 0.2, 0.0),
    ],
)
@pytest.mark.parametrize("shape", [(3, 10), (3, 10, 4, 4)])
def test_modes_are_fixed_factors_for_every_example(mode, compensation, general, memory, shape):
    dropout = ExampleTiedDropout(10, layer=0, mode=mode, compensation=compensation).eval()
    x = torch.randn(shape)
    factors = torch.tensor([general] * 2 + [memory] * 8).view(-1, *[1] * (len(shape) - 2))
    torch.testing.assert_close(dropout(x), x * factors)
    with example_ids(dropout, torch.tensor([5, 6, 7])):
        torch.testing.assert_close(dropout(x), x * factors)


def test_expected_compensation_keeps_the_mean_number_of_channels():
    masks = ExampleTiedDropout(30, layer=0).own_masks(IDS, 30).double().sum(1)
    dropped = ExampleTiedDropout(30, layer=0, compensation="expected").eval()
    error = 3 * float(masks.std()) / math.sqrt(len(IDS))
    assert dropped(torch.ones(1, 30)).sum().item() == pytest.approx(float(masks.mean()), abs=error)


def test_all_channels_general_is_the_identity():
    dropout, x = ExampleTiedDropout(7, generalization=1.0, layer=0), torch.randn(2, 7, 3)
    with example_ids(dropout, torch.tensor([0, 1])):
        assert torch.equal(dropout(x), x)
    for mode in ("scaled", "dropped"):
        dropout.mode = mode
        assert torch.equal(dropout.eval()(x), x)


def test_a_share_of_channels_is_not_lost_to_rounding():
    # 0.29 * 100 is 28.999999999999996.
    dropped = ExampleTiedDropout(generalization=0.29, layer=0).eval()
    assert dropped(torch.ones(1, 100)).sum() == 29


def test_tokens_have_their_channels_last():
    dropout, x = ExampleTiedDropout(10, layer=0, axis=-1), torch.randn(2, 5, 10)
    with example_ids(dropout, torch.tensor([3, 4])):
        found = dropout(x)
    masks = dropout.own_masks(torch.tensor([3, 4]), 10)
    assert torch.equal(found, x * masks[:, None])


def test_training_takes_the_own_mask_in_any_mode_and_needs_ids():
    dropout = ExampleTiedDropout(10, layer=0, mode="dropped")
    with example_ids(dropout, torch.tensor([3])):
        assert torch.equal(dropout(torch.ones(1, 10))[0].bool(), dropout.own_masks(IDS[3:4], 10)[0])
    with pytest.raises(ValueError, match="does not know which examples these are; run the model"):
        dropout(torch.ones(1, 10))
    dropout.eval().mode = "own"
    with pytest.raises(ValueError, match="does not know which examples these are"):
        dropout(torch.ones(1, 10))
    with example_ids(dropout, torch.tensor([3])):
        with pytest.raises(ValueError, match="given 1 ids for a batch of 2"):
            dropout(torch.ones(2, 10))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"generalization": 1.2}, "shares from 0 to 1, but got 1.2 and 0.1"),
        ({"memorization": -0.1}, "shares from 0 to 1"),
        ({"mode": "drop"}, "mode is 'drop'; choose from 'own', 'scaled', 'dropped'"),
        ({"compensation": "all"}, "compensation is 'all'; choose from 'none'"),
    ],
)
def test_bad_settings_get_one_clear_sentence(wrong, said):
    with pytest.raises(ValueError, match=said):
        ExampleTiedDropout(10, layer=0, **wrong)


def test_other_channels_than_said_are_refused():
    with pytest.raises(ValueError, match="axis 1 of the activations has 4 channels, not 10"):
        ExampleTiedDropout(10, layer=0).eval()(torch.ones(2, 4))


def test_a_masked_channel_gets_exactly_no_gradient_from_its_example():
    model = insert_example_tied_dropout(MLP((6, 30, 30, 3), seed=0), ["relu1", "relu2"])
    x, i = torch.randn(1, 6, generator=torch.Generator().manual_seed(0)), torch.tensor([11])
    model(x, example_ids=i).logsumexp(1).sum().backward()
    for layer, following, number in (("fc1", "fc2", 0), ("fc2", "head", 1)):
        masked = ~ExampleTiedDropout(layer=number).own_masks(i, 30)[0]
        own, after = model.get_submodule(layer).weight.grad, model.get_submodule(following)
        assert masked.any() and not masked.all()
        assert (own[masked] == 0).all()
        assert (after.weight.grad[:, masked] == 0).all()
        assert (own[~masked] != 0).any()


def nested(mlp):
    return nn.Sequential(nn.Sequential(mlp.fc1, mlp.relu1), mlp.head)


MODELS = {
    "mlp": (lambda: MLP((12, 20, 20, 3), seed=0), ["relu1", "relu2"], (5, 12)),
    "convnet": (lambda: ConvNet((8, 8, 8, 8), 10, 3, seed=0), ["relu1", "relu4"], (5, 1, 8, 8)),
    "resnet9": (lambda: ResNet9(3, seed=0), ["relu1", "res1", "relu4"], (2, 3, 16, 16)),
    "sequential": (lambda: nested(MLP((4, 10, 3), seed=0)), ["0"], (5, 4)),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_goes_behind_any_module_and_changes_no_name(name):
    build, layers, shape = MODELS[name]
    plain, model = build().eval(), insert_example_tied_dropout(build().eval(), layers)
    x, ids = torch.randn(shape, generator=torch.Generator().manual_seed(0)), torch.arange(shape[0])
    assert plain.state_dict().keys() == model.state_dict().keys()
    expected = plain_with_masks(plain, layers, x, ids)
    set_mode(model, "own")
    torch.testing.assert_close(model(x, example_ids=ids), expected)
    with example_ids(model, ids.flip(0)):
        torch.testing.assert_close(model(x, example_ids=ids), expected)  # the argument goes first
        torch.testing.assert_close(copy.deepcopy(model)(x.flip(0)), expected.flip(0))
    with pytest.raises(ValueError, match="does not know which examples"):
        model(x)  # neither is remembered
    with pytest.raises(ValueError, match="given 1 ids"):
        model(x, example_ids=ids[:1])
    with pytest.raises(ValueError, match="does not know which examples"):
        model(x)  # nor after an error


def plain_with_masks(model, layers, x, ids):
    """The same by plain hooks that multiply with the masks."""

    def hook(number):
        def multiply(module, inputs, output):
            mask = ExampleTiedDropout(layer=number).own_masks(ids, output.shape[1])
            return output * mask.view(*mask.shape, *[1] * (output.dim() - 2))

        return multiply

    for number, name in enumerate(layers):
        model.get_submodule(name).register_forward_hook(hook(number))
    return model(x)


def test_inserting_refuses_in_one_clear_sentence():
    model = MLP((6, 5, 3), seed=0)
    with pytest.raises(
        ValueError, match=r"no module 'relu9'; choose from 'flatten', 'fc1', 'relu1'"
    ):
        insert_example_tied_dropout(model, ["relu1", "relu9"])
    with pytest.raises(ValueError, match="layers is empty"):
        insert_example_tied_dropout(model, [])
    with pytest.raises(ValueError, match="no example-tied dropout; insert it first"):
        set_mode(model, "own")
    insert_example_tied_dropout(model, ["relu1"])
    with pytest.raises(ValueError, match="'relu1' has an example-tied dropout already"):
        insert_example_tied_dropout(model, ["relu1"])
    with pytest.raises(ValueError, match="mode is 'drop'"):
        set_mode(model, "drop")


@pytest.mark.parametrize("mode", ["own", "scaled", "dropped"])
@pytest.mark.parametrize("how", ["zero", "mean"])
def test_the_engine_ablates_its_units_in_every_mode(mode, how):
    model = insert_example_tied_dropout(
        ConvNet((10, 10, 10, 10), 10, 3, seed=0).eval(), ["relu1", "relu3", "relu5"], 0.3, 0.4
    )
    set_mode(model, mode)
    generator = torch.Generator().manual_seed(0)
    x, ids = torch.randn(12, 1, 8, 8, generator=generator), torch.arange(100, 112)
    study = Study(
        model, {"images": x, "example_ids": ids}, torch.arange(12) % 3, {"test": range(12)}
    )
    relus = {"conv1": "relu1", "conv3": "relu3", "fc": "relu5"}
    effects = mv.sweep(study, "conv1:0,9 conv3:1 fc:2", how=how, progress=False)
    with torch.no_grad():
        clean = study.task.margin(model(x, example_ids=ids), study.labels)
        for unit, change in zip(effects.units, effects.margin_change, strict=True):

            def replace(module, inputs, output, index=unit.index):
                output = output.clone()
                output[:, index] = output[:, index].mean() if how == "mean" else 0.0
                return output

            # First of the hooks: the unit's activation is what comes before the dropout.
            relu = model.get_submodule(relus[unit.layer])
            handle = relu.register_forward_hook(replace, prepend=True)
            margin = study.task.margin(model(x, example_ids=ids), study.labels)
            handle.remove()
            torch.testing.assert_close(change, margin - clean, rtol=1e-4, atol=1e-5)


def test_memory_goes_where_the_mask_is(tmp_path):
    """An MLP fits random labels with own masks, and dropping the memory loses them."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 20, generator=generator)
    labels = torch.randint(0, 4, (40,), generator=generator)
    model = insert_example_tied_dropout(MLP((20, 200, 4), seed=0), ["relu1"], 0.02, 0.1)
    set_mode(model, "own")
    run = train(model, inputs, labels, epochs=60, batch_size=10, learning_rate=0.1, progress=False)
    assert run.accuracy[-1] == 1.0  # the loop and the recorder tell it who comes
    set_mode(model, "dropped")
    assert (model(inputs).argmax(1) == labels).float().mean() < 0.7
    set_mode(model, "own")
    others = model(inputs, example_ids=torch.arange(40).roll(1)).argmax(1)
    assert (others == labels).float().mean() < 0.7


def test_recalibration_gives_the_statistics_of_the_inputs_and_leaves_the_model():
    model = insert_example_tied_dropout(
        ConvNet((8, 8, 8, 8), 10, 3, seed=0), ["relu1", "relu2", "relu3", "relu4"]
    ).eval()
    before = copy.deepcopy(model.state_dict())
    inputs = 3 * torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
    found = recalibrate_batch_norm(model, inputs, batch_size=64)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    assert not found.training and not found.bn1.training
    with torch.no_grad():
        x = found.relu1(found.bn1(found.conv1(inputs)))
        x = found.pool1(found.relu2(found.bn2(found.conv2(x))))
        values = found.conv3(x).transpose(0, 1).flatten(1)
    # A batch is normalized by its biased variance, running statistics by the unbiased one: off by
    # one part in 64 * 64 positions and in 64 * 16.
    torch.testing.assert_close(found.bn3.running_mean, values.mean(1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found.bn3.running_var, values.var(1), rtol=3e-3, atol=1e-4)
    assert found.bn3.momentum == 0.1
    again = recalibrate_batch_norm(found, inputs, batch_size=64)
    torch.testing.assert_close(again.state_dict(), found.state_dict())
    # Batches count alike: the ragged one is left out.
    ragged = recalibrate_batch_norm(model, inputs, batch_size=30)
    even = recalibrate_batch_norm(model, inputs[:60], batch_size=30)
    torch.testing.assert_close(ragged.state_dict(), even.state_dict())
    with pytest.raises(ValueError, match="no batch norm with running statistics"):
        recalibrate_batch_norm(MLP((6, 5, 3)), torch.zeros(2, 6))
    with pytest.raises(ValueError, match="no inputs"):
        recalibrate_batch_norm(model, inputs[:0])
