"""A Study: what it takes, and one clear sentence for what it does not."""

from collections import UserDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import memviz as mv
from memviz.study import check_classes

N = 6


def made(model: Any = None, inputs: Any = None, labels: Any = None, **more: Any) -> mv.Study:
    model = nn.Linear(4, 3).eval() if model is None else model
    inputs = torch.randn(N, 4) if inputs is None else inputs
    labels = torch.arange(N) % 3 if labels is None else labels
    groups = more.pop("groups", {"memorized": [0, 1], "clean": range(2, N)})
    return mv.Study(model, inputs, labels, groups, **more)


def nan_weights() -> nn.Module:
    model = nn.Linear(4, 3).eval()
    with torch.no_grad():
        model.weight[1, 2] = torch.inf
    return model


def half_trained() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout()).eval()
    model[1].train()
    return model


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "lengths": (
        {"inputs": torch.randn(N + 1, 4)},
        "inputs holds 7 examples and labels 6; they must have the same length",
    ),
    "lengths in a dict": (
        {"inputs": {"a": torch.randn(N, 4), "b": torch.randn(2)}},
        "b holds 2 examples and labels 6; they must have the same length",
    ),
    "labels of two axes": (
        {"labels": torch.zeros(N, 3)},
        "labels has shape .6, 3.; give one label per example",
    ),
    "true labels": (
        {"true_labels": torch.zeros(N - 1)},
        "true_labels holds 5 labels for 6 examples",
    ),
    "true labels of two axes": ({"true_labels": torch.zeros(N, 2)}, "true_labels has shape"),
    "no groups": ({"groups": {}}, "groups is empty; name at least one"),
    "an empty group": (
        {"groups": {"test": range(3), "clean": []}},
        "group 'clean' is empty; leave it out or give it examples",
    ),
    "an empty mask": (
        {"groups": {"test": torch.zeros(N, dtype=torch.bool)}},
        "group 'test' is empty",
    ),
    "overlapping groups": (
        {"groups": {"clean": range(4), "test": [5, 3]}},
        "example 3 is in group 'clean' and in group 'test'; an example may belong to one group",
    ),
    "a mask of a wrong shape": (
        {"groups": {"test": torch.ones(N + 2, dtype=torch.bool)}},
        r"group 'test' is a mask of shape \(8,\) for 6 examples; give a mask \[6\] or indices",
    ),
    "an index outside": (
        {"groups": {"test": [0, N]}},
        "group 'test' names 6; this study has 6 examples, 0 to 5",
    ),
    "a negative index": ({"groups": {"test": [-1]}}, "group 'test' names -1; this study has 6"),
    "train mode": (
        {"model": nn.Linear(4, 3)},
        r"the model is in train mode \(module 'model'\); call model.eval\(\) first",
    ),
    "a module in train mode": ({"model": half_trained()}, r"in train mode \(module '1'\)"),
    "weights": ({"model": nan_weights()}, "parameter 'weight' holds NaN or infinite weights"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments(wrong: str) -> None:
    arguments, words = WRONG[wrong]
    with pytest.raises(ValueError, match=words) as caught:
        made(**arguments)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [lambda x: x, "resnet18", None.__class__, nn.Linear])
def test_a_model_that_is_none(model: Any) -> None:
    with pytest.raises(TypeError, match=r"model is \w+; give a torch.nn.Module in eval mode"):
        made(model=model)


class Returns(nn.Module):
    """Hands its logits on in some wrapping."""

    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.fc, self.wrap = nn.Linear(4, 3), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.fc(x))


NO_LOGITS = {
    "whole numbers": (lambda out: out.argmax(1), r"torch.int64 of shape \(\d,\)"),
    "maps": (lambda out: out[:, :, None], r"torch.float32 of shape \(\d, 3, 1\)"),
    "an object": (lambda out: object(), "object"),
    "nothing": (lambda out: None, "NoneType"),
    "an empty tuple": (lambda out: (), "tuple"),
    "another dict": (lambda out: {"boxes": out}, "dict"),
}


@pytest.mark.parametrize("kind", NO_LOGITS)
def test_a_model_that_returns_no_logits(kind: str) -> None:
    wrap, words = NO_LOGITS[kind]
    study = made(Returns(wrap).eval())
    with pytest.raises(ValueError, match=f"the model returned {words}, not logits .*; wrap it in"):
        mv.sweep(study, progress=False)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda out: out,
        lambda out: (out, out.sum()),
        lambda out: [out],
        lambda out: {"logits": out, "loss": out.sum()},
        lambda out: SimpleNamespace(logits=out),
        lambda out: out.relu_(),  # changed in place after the layer
        lambda out: SimpleNamespace(logits=out.relu_()),
        lambda out: (out.relu_(), {"logits": out})[1],  # the changed tensor by its older name
        lambda out: (out.relu_(), SimpleNamespace(logits=out))[1],
    ],
)
def test_a_model_that_wraps_its_logits(wrap: Any) -> None:
    torch.manual_seed(0)
    study = made(Returns(wrap).eval())
    with torch.no_grad():
        logits = mv.Classification().outputs(study.model(study.inputs))
    wanted = logits.clone()
    wanted[:, 1] = 0.0
    for memory in (None, 0):
        replay = mv.Replay(study, memory=memory)
        assert [layer.is_output for layer in replay.layers] == [True]
        assert torch.allclose(replay.clean, logits)
        assert torch.allclose(replay.outputs("fc:1"), wanted)


def test_labels_that_the_model_has_no_class_for() -> None:
    for labels in (torch.arange(N), torch.arange(N) - 1):
        with pytest.raises(
            ValueError, match="the model gives 3 classes, 0 to 2, and the labels hold"
        ) as caught:
            mv.sweep(made(labels=labels), mv.UnitSet({"": [0]}), progress=False)
        assert str(caught.value).endswith(".")


class TwoInputs(nn.Module):
    """Called by names."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc = nn.Embedding(10, 4), nn.Linear(4, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, *, ids: Tensor, weight: Tensor) -> Tensor:
        mixed = (self.words(ids) * weight[..., None]).sum(1)
        return self.head(torch.relu(self.fc(mixed)))


@pytest.mark.parametrize("memory", [None, 0])
def test_inputs_by_name(memory: int | None) -> None:
    torch.manual_seed(0)
    model = TwoInputs().eval()
    inputs = {"ids": torch.randint(0, 10, (N, 7)), "weight": torch.rand(N, 7)}
    study = made(model, inputs)
    effects = mv.sweep(study, how="mean", memory=memory, progress=False)
    assert [layer.name for layer in mv.layers(study)] == ["fc", "head"]
    with torch.no_grad():
        hidden = torch.relu(
            model.fc((model.words(inputs["ids"]) * inputs["weight"][..., None]).sum(1))
        )
        clean = model.head(hidden)
        hidden[:, 2] = hidden[:, 2].mean()
        after = model.head(hidden)
    margin = study.task.margin(after, study.labels) - study.task.margin(clean, study.labels)
    assert torch.allclose(effects.margin_change[2], margin, atol=1e-6)
    with mv.ablate(study, "fc:2", "mean") as ablated, torch.no_grad():
        assert torch.allclose(ablated(**inputs), after, atol=1e-6)
    assert mv.estimate(study).done.all()
    assert len(mv.readout(study, "fc:1", random_draws=2).random["clean"]) == 2


def test_groups_in_every_form() -> None:
    forms: list[Any] = [
        [0, 1],
        (0, 1),
        range(2),
        torch.tensor([1, 0]),
        np.array([0, 1]),
        torch.arange(N) < 2,
        np.arange(N) < 2,
        [True, True, False, False, False, False],
        torch.tensor([0, 1], dtype=torch.int32),
    ]
    for form in forms:
        study = made(groups={"memorized": form})
        assert study.groups["memorized"].tolist() == [True, True, *[False] * 4]
        assert study.group("memorized").tolist() == [0, 1]
    with pytest.raises(ValueError, match="there is no group 'tset'; this study has memorized"):
        study.group("tset")


def test_what_is_known_of_a_study() -> None:
    study = made(class_names=["a", "b"], name="mine", labels=np.arange(N) % 3)
    assert repr(study) == "Study('mine': Linear, 6 examples: 2 memorized, 4 clean)"
    assert (study.class_name(1), study.class_name(2)) == ("b", "2")
    assert study.labels.dtype == torch.int64 and len(study) == N
    assert study.device == torch.device("cpu")
    assert made(nn.Flatten().eval()).device == torch.device("cpu")  # no weights at all


def test_the_margin_by_hand() -> None:
    outputs, labels = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 5.0]]), torch.tensor([0, 2])
    task = mv.Classification()
    assert task.margin(outputs, labels).tolist() == [1.0, 0.0]
    wanted = -torch.log_softmax(outputs, 1)[[0, 1], [0, 2]]
    assert torch.allclose(task.loss(outputs, labels), wanted)
    assert task.predictions(outputs).tolist() == [0, 1]


@pytest.mark.parametrize(
    "use",
    [
        mv.workbench,
        mv.sweep,
        mv.layers,
        mv.greedy,
        mv.estimate,
        mv.Session,
        lambda given: mv.readout(given, "0:1"),
        lambda given: mv.attribute_inputs(given, [0]),
    ],
)
def test_what_is_no_study_gets_one_sentence(use: Callable[[Any], object]) -> None:
    model = torch.nn.Linear(4, 3).eval()
    wanted = r"expected a Study, got Linear; build one from this model .* mv\.Study\(model"
    with pytest.raises(TypeError, match=wanted):
        use(model)
    with pytest.raises(TypeError, match=r"got str; build one from the model and its data"):
        use("digits")

    class Holder:
        study = mv.Study(model, torch.randn(2, 4), torch.zeros(2), {"test": range(2)})

    with pytest.raises(TypeError, match=r"expected a Study, got Holder; take its \.study"):
        use(Holder())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": torch.tensor([0.0, 1.7, 2.0])}, "labels holds 1.7, which is not a class"),
        ({"labels": ["cat", "dog", "cat"]}, "labels holds str, not numbers"),
        ({"true_labels": [0, 0.5, 1]}, "true_labels holds 0.5, which is not a class"),
        (
            {"groups": {"test": [0, 1, 1]}},
            "names an example twice.* give each index once, or a boo",
        ),
        ({"groups": {"test": torch.tensor([0, 1.5])}}, "group 'test' holds fractions"),
        ({"groups": {"test": ["a", "b"]}}, "group 'test' holds str, not numbers"),
    ],
)
def test_what_is_no_whole_number_is_refused_not_cut(changes: dict, sentence: str) -> None:
    given = {"labels": [0, 1, 2], "groups": {"test": range(3)}} | changes
    with pytest.raises(ValueError, match=sentence):
        mv.Study(torch.nn.Linear(4, 3).eval(), torch.randn(3, 4), **given)


def test_columns_of_a_table_are_labels() -> None:
    table = pd.DataFrame({"label": [0, 2, 1], "is_test": [True, False, True]}, index=[7, 8, 9])
    groups = {"test": table["is_test"], "clean": [1]}
    study = mv.Study(torch.nn.Linear(4, 3).eval(), torch.randn(3, 4), table["label"], groups)
    assert study.labels.tolist() == [0, 2, 1] and study.group("test").tolist() == [0, 2]


class Sparse(nn.Module):
    """Multiplies by a sparse table."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.register_buffer("table", torch.eye(4).to_sparse())

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.sparse.mm(self.table, x.T).T)


class OfTwo(nn.Module):
    """Named arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.fc(left * right)


def made_in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return nn.Linear(4, 3).eval()


def pictures() -> list[Any]:
    return [Image.new("RGB", (8, 8)) for _ in range(N)]


def batches() -> DataLoader:
    return DataLoader(TensorDataset(torch.randn(N, 4), torch.arange(N)), batch_size=2)


REFUSED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "meta weights": (
        lambda: {"model": nn.Linear(4, 3, device="meta").eval()},
        "parameter 'weight' is on the meta device and holds no values; make the model on a real",
    ),
    "lazy weights": (
        lambda: {"model": nn.Sequential(nn.LazyLinear(3)).eval()},
        "parameter '0.weight' is uninitialized, as in a lazy module; call the model once",
    ),
    "inference weights": (
        lambda: {"model": made_in_inference_mode()},
        "parameter 'weight' was made under torch.inference_mode.. and allows no gradients; make or",
    ),
    "sparse weights": (
        lambda: {"model": Sparse().eval()},
        "buffer 'table' is sparse, and memviz reads dense weights only; store it dense",
    ),
    "a whole graph": (
        lambda: {
            "inputs": {"x": torch.randn(N, 4), "edge_index": torch.zeros(2, 9, dtype=torch.long)}
        },
        "edge_index holds 2 examples and labels 6; .* the edges of a graph, must be built into the",
    ),
    "pictures": (
        lambda: {"inputs": pictures()},
        "inputs is a list of 6 .Image.; stack them: torch.stack.*functional.to_tensor.image.",
    ),
    "texts": (lambda: {"inputs": ["a"] * N}, "inputs is a list of 6 .str.; tokenize them first"),
    "a tuple of inputs": (
        lambda: {"model": OfTwo().eval(), "inputs": (torch.randn(N, 4), torch.randn(N, 4))},
        "inputs is a tuple of 2 .Tensor.; give one tensor, .* a dict .*, which are left, right",
    ),
    "a list of examples": (
        lambda: {"inputs": list(torch.randn(N, 4))},
        "inputs is a list of 6 .Tensor.; stack the examples, padded to one shape: torch.stack",
    ),
    "a loader": (lambda: {"inputs": batches()}, "inputs is DataLoader; give loader.dataset"),
    "a loader of labels": (lambda: {"labels": batches()}, "labels is DataLoader; read it once"),
    "a table": (
        lambda: {"inputs": pd.DataFrame(np.zeros((N, 4)))},
        "inputs is DataFrame; give its numbers as a tensor: torch.tensor.table.to_numpy",
    ),
    "nothing": (lambda: {"inputs": SimpleNamespace()}, "inputs is SimpleNamespace; give one ten"),
    "packed": (
        lambda: {"inputs": nn.utils.rnn.pack_sequence([torch.randn(3, 4)])},
        "inputs is PackedSequence; give one tensor",
    ),
    "sparse inputs": (lambda: {"inputs": torch.eye(N).to_sparse()}, "inputs is sparse; give a den"),
    "meta inputs": (
        lambda: {"inputs": torch.zeros(N, 4, device="meta")},
        "inputs is on the meta device and holds no values",
    ),
    "a number": (lambda: {"inputs": torch.tensor(1.0)}, "inputs is a single number; give a tensor"),
    "lists of several lengths": (
        lambda: {"inputs": {"ids": [[1, 2], [1], [1], [1], [1], [1]]}},
        "ids is a list of 6 .list.; .* examples of several lengths must first be padded",
    ),
    "a constant": (
        lambda: {"inputs": {"x": torch.randn(N, 4), "return_dict": False}},
        "return_dict is bool; each input must be a tensor whose first axis is the examples",
    ),
    "no mask": (
        lambda: {"inputs": {"x": torch.randn(N, 4), "mask": None}},
        "mask is NoneType; each input must be a tensor",
    ),
    "a key": (
        lambda: {"inputs": {0: torch.randn(N, 4)}},
        "inputs has the key 0; the keys are the names of the model's arguments, which are input",
    ),
    "an empty dict": (lambda: {"inputs": {}}, "inputs is an empty dict; give the model's argume"),
    "words for labels": (
        lambda: {"labels": pd.Series(list("abcabc"))},
        "labels holds str, not numbers; number them, .* class_names, labels = numpy.unique",
    ),
    "gaps in labels": (
        lambda: {"labels": pd.Series([0, 1, 2, 0, 1, None])},
        "labels holds nan, which is not a class; give whole numbers, .n. .memviz E19..",
    ),
    "no labels": (lambda: {"labels": [None] * N}, "labels holds NoneType, not numbers"),
    "meta labels": (
        lambda: {"labels": torch.zeros(N, device="meta")},
        "labels is a tensor on the meta device, not numbers",
    ),
    "groups without names": (lambda: {"groups": [0, 1]}, "groups is list; give names with their"),
    "a class for a task": (
        lambda: {"task": mv.Classification},
        "task is the class Classification; give an instance: Classification",
    ),
    "a word for a task": (
        lambda: {"task": "binary"},
        "task is str, which has no method outputs; give a task such as mv.Classification",
    ),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_what_people_bring_is_refused_in_one_sentence(wrong: str) -> None:
    arguments, words = REFUSED[wrong]
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        made(**arguments())
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_what_is_unambiguous_is_taken() -> None:
    fixed = np.zeros((N, 4), np.float32)
    fixed.flags.writeable = False
    inputs: list[Any] = [fixed, fixed.tolist(), tuple(fixed.tolist())]
    for given in inputs:
        study = made(inputs=given)
        assert torch.equal(study.inputs, torch.zeros(N, 4))  # type: ignore[arg-type]
    named = made(OfTwo().eval(), UserDict({"left": fixed.tolist(), "right": torch.ones(N, 4)}))
    assert isinstance(named.inputs, dict) and mv.Replay(named).clean.shape == (N, 3)
    labels: list[Any] = [
        pd.Series([0, 1, 2, 0, 1, 2], index=range(7, 13)),
        pd.Series([0, 1, 2, 0, 1, 2], dtype="Int64"),
        pd.Series([0, 1, 2, 0, 1, 2]).astype("category"),
        np.array([0, 1, 2, 0, 1, 2], np.uint16),
        np.array([0, 1, 2, 0, 1, 2], object),
        [torch.tensor(k % 3) for k in range(N)],
    ]
    for given in labels:
        assert made(labels=given).labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_inputs_that_need_gradients_are_shared_without_them() -> None:
    inputs = torch.randn(N, 4, requires_grad=True)
    study = made(inputs=inputs)
    assert isinstance(study.inputs, Tensor) and not study.inputs.requires_grad
    assert study.inputs.data_ptr() == inputs.data_ptr()


def test_weights_of_8_bits_are_looked_at() -> None:
    model = nn.Linear(4, 3).to(torch.float8_e4m3fn).eval()
    assert made(model)
    with torch.no_grad():
        model.weight[1, 2] = torch.nan
    with pytest.raises(ValueError, match="parameter 'weight' holds NaN"):
        made(model)


def test_a_class_without_a_name_is_its_number() -> None:
    study = made(class_names=["a", "b"])
    assert [study.class_name(label) for label in (-1, 0, 2)] == ["-1", "a", "2"]


def test_what_needs_classes_refuses_other_labels() -> None:
    check_classes(made(), "attributions")
    study = made(nn.Linear(4, 1).eval(), labels=torch.randn(N), task=mv.Regression(0.5))
    with pytest.raises(ValueError, match="attributions need one class per example, and the labels"):
        check_classes(study, "attributions")


@pytest.mark.parametrize(
    ("inputs", "cure"),
    [
        (torch.rand(N, 4).double(), "inputs is float64 and the model's weights are float32: give "),
        (torch.ones(N, 4).byte(), "give inputs.to(torch.float32), scaled as in training."),
        (torch.rand(N, 5), "memviz called Linear(float32 [2, 5]): a batch of the study's inputs."),
    ],
)
def test_a_model_that_fails_says_what_it_was_called_with(inputs: torch.Tensor, cure: str) -> None:
    model = nn.Linear(4, 3).eval()
    study = mv.Study(model, inputs, torch.zeros(N), {"test": range(N)})
    with pytest.raises(RuntimeError) as plain:
        model(inputs[:2])
    with pytest.raises(RuntimeError) as caught:
        mv.layers(study)
    assert str(caught.value) == str(plain.value)  # torch's own words stay
    assert cure in " ".join(caught.value.__notes__)


class Masked(nn.Module):
    """A linear layer on inputs that a mask and a scale of other types go with."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.fc(x).masked_fill(mask, 0) * scale


@pytest.mark.parametrize(
    ("x", "scale", "advised"),
    [
        (torch.rand(N, 5), torch.ones(N, 1).double(), []),  # the width is wrong, no type
        (torch.rand(N, 4).double(), torch.ones(N, 1), ["x"]),
    ],
)
def test_types_are_advised_on_where_the_error_is_one_of_types(
    x: torch.Tensor, scale: torch.Tensor, advised: list[str]
) -> None:
    inputs = {"x": x, "mask": torch.zeros(N, 3).bool(), "scale": scale}
    study = mv.Study(Masked().eval(), inputs, torch.zeros(N), {"test": range(N)})
    with pytest.raises(RuntimeError) as caught:
        mv.layers(study)
    notes = [note.split(" is ")[0] for note in caught.value.__notes__ if ": give " in note]
    assert notes == advised


def test_a_convolution_speaks_of_types_in_its_own_words() -> None:
    images = torch.rand(N, 1, 8, 8).double()
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 2)).eval()
    with pytest.raises(RuntimeError, match="type") as caught:
        mv.layers(mv.Study(model, images, torch.zeros(N), {"test": range(N)}))
    assert "inputs is float64 and the model's weights are float32" in caught.value.__notes__[-1]


def test_labels_that_were_forgotten() -> None:
    task = mv.tasks.Language(prompt=8, continuation=8)
    with pytest.raises(ValueError, match=r"no labels are given; .*prompt=8, .*help\(Language\)"):
        mv.Study(nn.Linear(4, 3).eval(), torch.rand(N, 4), groups={"test": range(N)}, task=task)


def test_a_group_in_place_of_its_examples() -> None:
    with pytest.raises(ValueError, match=r"the name of a group; .*: study.group\('clean'\)"):
        mv.sweep(made(), examples="clean")  # type: ignore[arg-type]
