"""Prediction depth: by hand, against scikit-learn's neighbours, and on planted layers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

import memviz as mv
from memviz.models.convnet import ConvNet
from memviz.probes.examples import _depth as module
from memviz.probes.examples import depth_of, prediction_depth
from tests.support.traces import no_trace

TABLES = st.integers(1, 6).flatmap(
    lambda depth: st.lists(
        st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=depth, max_size=depth
    )
)


@given(TABLES, st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_the_depth_is_its_definition(probes: list[list[int]], predictions: list[int]) -> None:
    found = depth_of(torch.tensor(probes), torch.tensor(predictions)).tolist()
    for k, predicted in enumerate(predictions):
        column = [row[k] for row in probes]
        right = (d for d in range(len(column)) if all(p == predicted for p in column[d:]))
        assert found[k] == next(right, len(column))


class Layers(nn.Module):
    """The class is in the input's third feature, which only the second layer passes on."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 3, bias=False), nn.Linear(3, 2, bias=False)
        with torch.no_grad():
            self.one.weight.copy_(torch.diag(torch.tensor([1.0, 1.0, 0.1])))
            self.two.weight.copy_(torch.tensor([[0.0, 0.0, -100.0], [0.0, 0.0, 100.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.one(x))


def test_a_class_that_appears_in_the_last_layer_is_as_deep() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 3, generator=generator) * torch.tensor([10.0, 10.0, 0.0])
    labels = torch.randint(2, (200,), generator=generator)
    inputs[:, 2] = 2.0 * labels - 1
    study = mv.Study(Layers().eval(), inputs, labels, {"clean": range(200)})
    found = prediction_depth(study, k=5, progress=False)
    # Both earlier layers have neighbours of either class: right by chance in both, a quarter or so.
    assert (found.values == 2).mean() > 0.4
    assert found.values.max() == 2
    assert found.measure == "layers, 0 (input) to 2 (two); 3 for none"
    # With the support's labels permuted, hardly any depth is reached before the end.
    assert found.null.mean.mean() > found.values.mean() + 0.3
    easy = mv.Study(study.model, inputs * torch.tensor([0.0, 0.0, 1.0]), labels, study.groups)
    assert prediction_depth(easy, k=5, progress=False).values.tolist() == [0] * 200


def test_probes_equal_scikit_learns_but_for_ties(digits: mv.Study) -> None:
    some = torch.arange(0, 1200, 20)
    found = prediction_depth(
        digits, some, support=some, k=5, features=10**6, progress=False, null_draws=0
    )
    replay = mv.Replay(digits, some, memory=0)
    labels = digits.labels[some].numpy()
    probes = []
    for name in [None, *replay.located]:
        rows = module._values(replay, name, 10**6).numpy()
        votes = []
        for k in range(len(some)):  # each without itself
            others = np.arange(len(some)) != k
            knn = KNeighborsClassifier(5, algorithm="brute").fit(rows[others], labels[others])
            near = labels[others][knn.kneighbors(rows[k : k + 1])[1][0]]
            counts = [int((near == label).sum()) for label in near]
            votes.append(int(near[np.argmax(counts)]))  # the nearest of the most frequent
            if sorted(np.bincount(near))[-1] > sorted(np.bincount(near, minlength=2))[-2]:
                assert votes[-1] == knn.predict(rows[k : k + 1])[0]
        probes.append(votes)
    predicted = digits.model(digits.inputs[some]).argmax(1)
    expected = depth_of(torch.tensor(probes), predicted)
    assert found.values.tolist() == expected.tolist()


def test_wrong_labels_of_the_digits_are_decided_late(digits: mv.Study) -> None:
    training = torch.arange(0, 1200, 2)
    found = prediction_depth(digits, training, support=training, progress=False)
    wrong = digits.groups["memorized"][training].numpy()
    assert found.values[wrong].mean() > found.values[~wrong].mean() + 3
    assert found.null.mean[~wrong].mean() > found.values[~wrong].mean() + 3


def test_an_example_is_no_neighbour_of_itself_though_it_has_many_copies() -> None:
    inputs = torch.tensor([[0.0]] * 6 + [[1.0], [1.1], [1.2], [1.3]])
    labels = torch.tensor([0] * 6 + [1] * 4)
    near = [
        module._neighbours(inputs, torch.arange(10), torch.arange(10), k, False) for k in (1, 5)
    ]
    for rows in near:
        assert not (rows == torch.arange(10)[:, None]).any()
        assert all(len(row.unique()) == len(row) for row in rows)
    assert (labels[near[1][:6]] == 0).all()


def test_large_layers_are_averaged_over_positions() -> None:
    value = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    assert torch.equal(module._pooled(value, 1, 10**6), value.flatten(1))
    pooled = module._pooled(value, 1, 12)
    assert torch.equal(pooled, nn.functional.adaptive_avg_pool2d(value, 2).flatten(1))
    tokens = torch.randn(2, 16, 5)
    mean = tokens.mean(1)
    assert torch.allclose(module._pooled(tokens, -1, 5), mean)
    assert module._pooled(value, 1, 1).shape == (2, 3)  # never fewer than the channels


def test_no_trace_and_another_support() -> None:
    study = mv.Study(
        ConvNet((4, 4, 4, 4), 8, seed=0).eval(),
        torch.randn(30, 1, 8, 8),
        torch.arange(30) % 10,
        {"clean": range(20), "test": range(20, 30)},
    )
    with no_trace(study.model):
        found = prediction_depth(
            study, study.group("test"), support=study.group("clean"), k=3, progress=False
        )
    assert found.examples.tolist() == list(range(20, 30))
    assert found.values.max() <= 7
    fewer = prediction_depth(study, layers=["fc", "conv1"], k=3, progress=False)
    assert fewer.measure.startswith("layers, 0 (input) to 2 (fc)")


def test_bad_input_gets_one_sentence(digits: mv.Study) -> None:
    some = torch.arange(20)
    with pytest.raises(ValueError, match="k is 30 and the support has 20"):
        prediction_depth(digits, some, support=some)
    with pytest.raises(KeyError, match="conv9"):
        prediction_depth(digits, some, k=3, layers=["conv9"])
    with pytest.raises(ValueError, match="layers is empty"):
        prediction_depth(digits, some, k=3, layers=[])
    with pytest.raises(ValueError, match="contains an example twice"):
        prediction_depth(digits, some, support=torch.tensor([1, 2, 2, 3, 4]), k=3)
    with pytest.raises(ValueError, match=r"support is a mask of shape \(7,\) for 1,797 examples"):
        prediction_depth(digits, some, support=torch.ones(7).bool(), k=3)
    with pytest.raises(ValueError, match="examples names 1797"):
        prediction_depth(digits, torch.tensor([1797]), k=3)
    with pytest.raises(ValueError, match="examples names an example twice"):
        prediction_depth(digits, torch.tensor([1, 1]), k=3)


def net(seed: int = 0) -> mv.Study:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)).eval()
        groups = {"memorized": range(10), "clean": range(10, 24), "test": range(24, 30)}
        return mv.Study(model, torch.randn(30, 3).round(), torch.randint(3, (30,)), groups)


def test_by_default_all_but_the_test_examples_vote_whoever_is_asked_for() -> None:
    study = net()
    whole = prediction_depth(study, k=5, progress=False, null_draws=0)
    for chosen in ([3], [29, 3, 11], [7, 0]):
        few = prediction_depth(study, torch.tensor(chosen), k=5, progress=False, null_draws=0)
        assert few.values.tolist() == whole.values[chosen].tolist()
    pool = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    listed = prediction_depth(study, support=pool, k=5, progress=False, null_draws=0)
    assert listed.values.tolist() == whole.values.tolist()
    only = mv.Study(study.model, study.inputs, study.labels, {"test": range(30)})
    assert prediction_depth(only, k=29, progress=False).values.shape == (30,)


def test_labels_of_other_numbers_give_the_same_depth() -> None:
    """Whole-numbered inputs have many neighbours at one distance, and many votes tie."""
    study = net()
    names = torch.tensor([2, 0, 1])
    head = study.model[2]
    renamed = nn.Sequential(study.model[0], study.model[1], nn.Linear(4, 3)).eval()
    with torch.no_grad():
        renamed[2].weight[names], renamed[2].bias[names] = head.weight, head.bias
    other = mv.Study(renamed, study.inputs, names[study.labels], study.groups)
    # The output layer's own features come in another order, which Euclidean distances do not see.
    for k in (2, 4):
        one, two = (
            prediction_depth(each, k=k, layers=["0"], progress=False, null_draws=0)
            for each in (study, other)
        )
        assert one.values.tolist() == two.values.tolist()


def test_neighbours_in_double_precision_are_those_of_double_precision() -> None:
    """Inputs that are one number in single precision."""
    inputs = 1.0 + torch.tensor([[0.0], [1e-9], [3e-9], [6e-9], [1.0]]).double()
    study = mv.Study(nn.Linear(1, 3).double().eval(), inputs, torch.zeros(5), {"clean": range(5)})
    rows = module._values(mv.Replay(study, torch.arange(5), memory=0), None, 10)
    assert rows.dtype == torch.float64
    near = module._neighbours(rows, torch.arange(5), torch.arange(5), 2, False)
    assert near.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1], [3, 2]]
