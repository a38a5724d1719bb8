"""ResNet9 and the MLP: layers, units, cost, and the forward pass written out by hand."""

import pytest
import torch
from torch.nn.functional import batch_norm, conv2d, max_pool2d
from torch.utils.flop_counter import FlopCounterMode

import memviz as mv
from memviz.models.mlp import MLP
from memviz.models.resnet9 import ResNet9

CHANNELS = {
    "conv1": 64,
    "conv2": 128,
    "res1.conv1": 128,
    "res1.conv2": 128,
    "conv3": 256,
    "res2.conv1": 256,
    "res2.conv2": 256,
    "conv4": 128,
}


def study_of(model, *shape):
    return mv.Study(model.eval(), torch.zeros(2, *shape), torch.zeros(2), {"test": range(2)})


def test_memviz_finds_exactly_the_1344_channels_of_resnet9():
    layers = mv.layers(study_of(ResNet9(seed=0), 3, 32, 32))
    inner = [layer for layer in layers if not layer.is_output]
    assert {layer.name: layer.units for layer in inner} == CHANNELS
    assert sum(layer.units for layer in inner) == 1344
    assert {layer.site for layer in inner} == {"conv2d > batch_norm > relu"}
    assert [(layer.name, layer.units) for layer in layers if layer.is_output] == [("head", 10)]


def test_one_image_takes_the_published_work():
    with FlopCounterMode(display=False) as counter:
        ResNet9(seed=0).eval()(torch.zeros(1, 3, 32, 32))
    assert counter.get_total_flops() == 582_617_600


def test_resnet9_equals_the_formula():
    model = ResNet9(classes=7, in_channels=2, seed=0)
    images = torch.rand(6, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        model(images)  # Moves the running statistics away from their start.
    w = model.eval().state_dict()

    def layer(x, conv, norm, stride=1, padding=1):
        x = conv2d(x, w[f"{conv}.weight"], stride=stride, padding=padding)
        mean, var = w[f"{norm}.running_mean"], w[f"{norm}.running_var"]
        return batch_norm(x, mean, var, w[f"{norm}.weight"], w[f"{norm}.bias"]).clamp(min=0)

    def residual(x, name):
        y = layer(x, f"{name}.conv1", f"{name}.bn1")
        return x + layer(y, f"{name}.conv2", f"{name}.bn2")

    x = layer(images, "conv1", "bn1")
    x = residual(layer(x, "conv2", "bn2", stride=2, padding=2), "res1")
    x = residual(max_pool2d(layer(x, "conv3", "bn3"), 2), "res2")
    x = layer(x, "conv4", "bn4", padding=0).flatten(2).max(2).values
    torch.testing.assert_close(model(images), x @ w["head.weight"].T / 5)
    assert model(images).shape == (6, 7)


def test_mlp_equals_the_formula():
    model = MLP((12, 5, 4, 3), seed=1).eval()
    images = torch.rand(6, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    w = model.state_dict()
    x = images.reshape(6, 12)
    for name in ("fc1", "fc2"):
        x = (x @ w[f"{name}.weight"].T + w[f"{name}.bias"]).clamp(min=0)
    torch.testing.assert_close(model(images), x @ w["head.weight"].T + w["head.bias"])


def test_memviz_finds_the_units_of_the_mlp():
    layers = mv.layers(study_of(MLP((12, 5, 4, 3), seed=0), 12))
    assert [(layer.name, layer.units, layer.site) for layer in layers] == [
        ("fc1", 5, "linear > relu"),
        ("fc2", 4, "linear > relu"),
        ("head", 3, "linear"),
    ]
    assert [layer.is_output for layer in layers] == [False, False, True]


@pytest.mark.parametrize("make", [ResNet9, lambda seed=None: MLP((4, 8, 3), seed=seed)])
def test_a_seed_fixes_the_weights_and_leaves_the_global_generator_alone(make):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second, other = make(seed=4), make(seed=4), make(seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
    make()
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ResNet9(classes=0), "classes=0"),
        (lambda: ResNet9(in_channels=0), "in_channels=0"),
        (lambda: MLP((4, 3)), r"at least one hidden layer.*widths=\(4, 3\)"),
        (lambda: MLP((4, 0, 3)), r"all positive, but got widths=\(4, 0, 3\)"),
    ],
)
def test_bad_sizes_get_one_clear_sentence(make, said):
    with pytest.raises(ValueError, match=said):
        make()
