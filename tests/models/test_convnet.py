"""The ConvNet: names, sizes, a seed of its own, and the forward pass written out by hand."""

import pytest
import torch
from torch.nn.functional import batch_norm, conv2d, max_pool2d

from memviz.models.convnet import ConvNet


def test_layers_have_the_names_and_widths_that_are_promised():
    model = ConvNet((3, 4, 5, 6), hidden=7, classes=9, in_channels=2, image_size=12)
    names = dict(model.named_modules())
    widths = [names[name].weight.shape[0] for name in ("conv1", "conv2", "conv3", "conv4", "fc")]
    assert widths == [3, 4, 5, 6, 7]
    assert names["head"].out_features == 9
    assert all(names[f"conv{i}"].bias is None for i in range(1, 5))
    assert model(torch.zeros(2, 2, 12, 12)).shape == (2, 9)


def test_each_module_runs_exactly_once_and_in_order():
    model = ConvNet(seed=0).eval()
    seen = []
    for name, module in model.named_children():
        module.register_forward_hook(lambda *_, name=name: seen.append(name))
    model(torch.zeros(1, 1, 8, 8))
    assert seen == [name for name, _ in model.named_children()]


def test_forward_equals_the_formula():
    model = ConvNet((3, 4, 5, 6), hidden=7, seed=0)
    images = torch.rand(11, 1, 8, 8)
    for _ in range(3):
        model(images)  # Moves the running statistics away from their start.
    model.eval()
    w = model.state_dict()
    x = images
    for i in range(1, 5):
        x = conv2d(x, w[f"conv{i}.weight"], padding=1)
        mean, var = w[f"bn{i}.running_mean"], w[f"bn{i}.running_var"]
        x = batch_norm(x, mean, var, w[f"bn{i}.weight"], w[f"bn{i}.bias"]).clamp(min=0)
        if i in (2, 4):
            x = max_pool2d(x, 2)
    x = (x.reshape(11, -1) @ w["fc.weight"].T + w["fc.bias"]).clamp(min=0)
    torch.testing.assert_close(model(images), x @ w["head.weight"].T + w["head.bias"])


def test_a_seed_fixes_the_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second, other = ConvNet(seed=4), ConvNet(seed=4), ConvNet(seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.conv3.weight, second.conv3.weight)
    assert not torch.equal(first.conv3.weight, other.conv3.weight)
    ConvNet()
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"channels": (3, 4, 5)}, "four positive channel counts"),
        ({"channels": (3, 4, 5, 0)}, "four positive channel counts"),
        ({"hidden": 0}, "hidden=0"),
        ({"image_size": 10}, "multiple of 4, but got 10"),
        ({"image_size": 0}, "multiple of 4, but got 0"),
    ],
)
def test_bad_sizes_get_one_clear_sentence(wrong, said):
    with pytest.raises(ValueError, match=said):
        ConvNet(**wrong)
