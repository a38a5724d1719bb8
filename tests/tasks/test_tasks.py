"""Each task against its formula, and one rule for ties: right exactly if predicted."""

import traceback
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import memviz as mv
from memviz.tasks import (
    Binary,
    Classification,
    Density,
    ImageText,
    Language,
    MultiLabel,
    Regression,
    are_right,
    judged,
)

N = 12
GROUPS = {"memorized": range(4), "clean": range(4, N)}


def rounded(dtype: torch.dtype, n: int = 400, classes: int = 10, seed: int = 0) -> Tensor:
    """Logits of which many tie for the largest."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(n, classes, generator=generator) * 0.02 + 4).to(dtype)


# Ties ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_an_example_is_right_exactly_if_its_label_is_predicted(dtype: torch.dtype) -> None:
    task, logits = Classification(), rounded(dtype)
    predicted = logits.argmax(1)
    top = logits.topk(2, dim=1).values
    if dtype in (torch.bfloat16, torch.float16):
        assert (top[:, 0] == top[:, 1]).sum() > 50
    for shift in range(10):
        labels = (predicted + shift) % 10
        margin = task.margin(logits, labels)
        assert margin.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert torch.equal(margin.float() > 0, predicted == labels)
        exact = logits.double().gather(1, labels[:, None])[:, 0]
        exact -= logits.double().scatter(1, labels[:, None], -torch.inf).amax(1)
        assert torch.allclose(margin.double(), exact, atol=1e-6, rtol=0)


def test_ties_at_infinity_and_differences_that_single_precision_loses() -> None:
    task, endless = Classification(), torch.tensor([[torch.inf, torch.inf, 0.0]])
    assert (task.margin(endless, torch.tensor([0])) > 0).all()
    assert not (task.margin(endless, torch.tensor([1])) > 0).any()
    close = torch.tensor([[1e-60, 0.0]], dtype=torch.float64)
    assert (task.margin(close, torch.tensor([0])).float() > 0).all()
    no_number = torch.tensor([[torch.nan, 0.0]])
    assert task.margin(no_number, torch.tensor([0])).isnan().all()


def test_gradients_pass_through_a_tie() -> None:
    logits = torch.tensor([[2.0, 2.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(Classification().margin(logits, torch.tensor([0])), logits)
    assert gradient.tolist() == [[1.0, -1.0, 0.0]]


class Coarse(nn.Module):
    """Computes in half precision, so that logits tie."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(4, 6, dtype=dtype), nn.Linear(6, 8, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return 4 + 0.05 * self.head(torch.relu(self.fc(x)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_counts_what_the_predictions_say(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    model, inputs = Coarse(dtype).eval(), torch.randn(200, 4, dtype=dtype)
    with torch.no_grad():
        logits = model(inputs)
        labels = logits.argmax(1)
        after = without(model, 2, inputs)
    top = logits.topk(2, dim=1).values
    assert (top[:, 0] == top[:, 1]).sum() > 20  # 97 % would be right, did ties count as wrong
    study = mv.Study(model, inputs, labels, {"clean": range(200)})
    readout = mv.readout(study, "fc:2", random_draws=0)
    assert readout.groups["clean"].before.accuracy == 1.0
    assert readout.groups["clean"].after.correct == int((after.argmax(1) == labels).sum())
    effects = mv.sweep(study, "fc:2", progress=False)
    assert torch.equal(effects.correct[0], after.argmax(1) == labels)
    assert effects.lost("clean").tolist() == [int((after.argmax(1) != labels).sum())]
    assert torch.allclose(effects.loss, F.cross_entropy(logits.float(), labels, reduction="none"))


@torch.no_grad()
def without(model: nn.Module, unit: int, inputs: Any) -> Tensor:
    """What the plain model returns with a unit of ``fc`` set to 0 by a hook."""

    def change(_module: Any, _args: Any, out: Tensor) -> Tensor:
        out = out.clone()
        out[:, unit] = 0
        return out

    handle = model.get_submodule("fc").register_forward_hook(change)
    try:
        returned: Tensor = model(inputs)
    finally:
        handle.remove()
    return returned


# Which tensor is meant ----------------------------------------------------------------------------

Pair = namedtuple("Pair", ["features", "logits"])


@dataclass
class Named:
    features: Tensor
    scores: Tensor


def test_where_several_tensors_could_be_meant_the_model_is_refused() -> None:
    features, logits, value = torch.ones(2, 8), torch.ones(2, 3), torch.ones(2)
    several: list[Any] = [
        (features, logits),
        [logits, features],
        (logits, value),
        (value[:, None], logits),
        (logits, (logits,)),
        ({"aux": logits}, logits),
    ]
    for raw in several:
        with pytest.raises(ValueError, match=r"could be the outputs .* task=mv\.Cl") as caught:
            Classification().outputs(raw)
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
        with pytest.raises(ValueError, match=r"task=mv\.tasks\.MultiLabel\(outputs="):
            MultiLabel().outputs(raw)
    for raw in ({"a": features, "b": logits}, Named(features, logits)):
        with pytest.raises(ValueError, match=r"name its entry, '\w+' or '\w+': task=mv\.Classi"):
            Classification().outputs(raw)


def test_an_output_without_a_table_is_refused_by_its_shape() -> None:
    maps = torch.ones(2, 5, 3)
    with pytest.raises(ValueError, match=r"shape \(2, 5, 3\), not logits .* one position"):
        Classification().outputs((torch.tensor(0.1), maps[0].long(), maps))
    with pytest.raises(ValueError, match=r"tuple, not logits .* entry, 0 or 1: .*\(outputs=0\)"):
        Classification().outputs((maps, maps))
    with pytest.raises(ValueError, match=r"a tuple in which \[0\] \(2, 3\) and \[1\]\['deep'\] "):
        Classification().outputs((torch.ones(2, 3), {"deep": torch.ones(2)}))


def test_what_hugging_face_and_others_return_is_unambiguous() -> None:
    logits, hidden, cache = torch.ones(2, 3), torch.ones(2, 5, 8), torch.ones(2, 2, 5, 4)
    clear: list[Any] = [
        (torch.tensor(0.7), logits),
        (torch.tensor(0.7), logits, (hidden, hidden), (cache,)),
        (logits, ((cache, cache),)),
        (logits, torch.ones(2, dtype=torch.int64)),
        (hidden, logits),
        OrderedDict(loss=torch.tensor(0.7), logits=logits, hidden_states=(hidden,)),
        {"logits": logits, "features": torch.ones(2, 8)},
        SimpleNamespace(logits=logits, features=torch.ones(2, 8)),
        Pair(torch.ones(2, 8), logits),
    ]
    for raw in clear:
        assert Classification().outputs(raw) is logits


@pytest.mark.parametrize(
    ("which", "raw"),
    [
        (1, lambda f, out: (f, out)),
        (-1, lambda f, out: [f, out]),
        ("scores", lambda f, out: {"features": f, "scores": out}),
        ("scores", Named),
        (lambda raw: raw[1]["deep"], lambda f, out: (f, {"deep": out})),
    ],
)
def test_the_outputs_can_be_named(which: Any, raw: Any) -> None:
    torch.manual_seed(0)
    body, head = nn.Linear(4, 5), nn.Linear(5, 3)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = body, head

        def forward(self, x: Tensor) -> Any:
            hidden = torch.relu(self.body(x))
            return raw(hidden, self.head(hidden))

    inputs = torch.randn(N, 4)
    with torch.no_grad():
        labels = head(torch.relu(body(inputs))).argmax(1)
    study = mv.Study(Both().eval(), inputs, labels, GROUPS, task=Classification(outputs=which))
    read = mv.readout(study, "", random_draws=0)
    assert {g.before.accuracy for g in read.groups.values()} == {1.0}
    with pytest.raises(ValueError, match=r"outputs=9\) names no entry of what the model returned"):
        Classification(outputs=9).outputs((inputs, inputs))
    with pytest.raises(ValueError, match=r"'a' names|outputs='a'\) names no entry"):
        Classification(outputs="a").outputs({"b": inputs})
    with pytest.raises(TypeError, match="outputs is list; give a key, an index or a function"):
        Classification(outputs=[1])  # type: ignore[arg-type]


def test_the_part_that_is_judged() -> None:
    features, logits = torch.ones(2, 8), torch.ones(2, 3)
    assert judged(Classification(outputs=1), (features, logits)) is logits
    assert judged(Classification(), {"logits": logits, "features": features}) is logits
    assert judged(Binary(), (torch.tensor(0.1), features[:, :1])).shape == (2, 1)
    sliced = (features, logits)
    assert judged(Classification(outputs=lambda out: out[1][:, :2]), sliced) is sliced
    pair = (features, features)
    assert judged(ImageText(), pair) is pair


@pytest.mark.parametrize(
    ("shape", "named"),
    [((2,), "Binary"), ((2, 1), "Binary"), ((2, 3, 4, 4), "one position"), ((2, 5, 3), "position")],
)
def test_outputs_of_other_tasks_name_the_task(shape: tuple[int, ...], named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        Classification().outputs(torch.ones(shape))
    assert "task=" in str(caught.value) and str(caught.value).endswith(".")


def test_one_position_of_several_can_be_judged() -> None:
    torch.manual_seed(0)
    model, inputs = nn.Conv2d(1, 3, 3, padding=1).eval(), torch.randn(N, 1, 4, 4)
    with torch.no_grad():
        labels = model(inputs)[:, :, 1, 2].argmax(1)
    task = Classification(outputs=lambda out: out[:, :, 1, 2])
    study = mv.Study(model, inputs, labels, GROUPS, task=task)
    assert mv.Replay(study).clean.shape == (N, 3)
    with pytest.raises(ValueError, match=r"one position, or name them: task=mv\.Classification"):
        mv.Replay(mv.Study(model, inputs, labels, GROUPS))


# One logit ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("wide", [False, True])
def test_binary_by_hand(dtype: torch.dtype, wide: bool) -> None:
    torch.manual_seed(0)
    z, labels, task = torch.randn(50).to(dtype), torch.randint(0, 2, (50,)), Binary()
    z[:4] = 0.0
    outputs = task.outputs(z[:, None] if wide else z)
    precise = z.to(torch.promote_types(dtype, torch.float32))
    signed = torch.where(labels == 1, precise, -precise)
    margin = task.margin(outputs, labels)
    assert torch.allclose(margin, signed, atol=1e-6)
    assert torch.equal(task.predictions(outputs), (z > 0).long())
    assert torch.equal(margin > 0, (z > 0).long() == labels)
    wanted = F.binary_cross_entropy_with_logits(precise, labels.to(precise), reduction="none")
    assert torch.allclose(task.loss(outputs, labels), wanted, atol=1e-6)
    assert torch.allclose(task.probabilities(outputs)[:, 1], precise.sigmoid(), atol=1e-6)


def test_probabilities_become_logits_by_a_function() -> None:
    torch.manual_seed(0)
    z, labels = torch.randn(30, 1), torch.randint(0, 2, (30,))
    logits, chances = Binary(), Binary(outputs=torch.logit)
    wanted = logits.margin(logits.outputs(z), labels)
    assert torch.allclose(chances.margin(chances.outputs(z.sigmoid()), labels), wanted, atol=1e-5)


class Scores(nn.Module):
    """Any number of numbers for each row of 4."""

    def __init__(self, width: int, squeeze: bool = False) -> None:
        super().__init__()
        self.fc, self.head, self.squeeze = nn.Linear(4, 6), nn.Linear(6, width), squeeze

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.fc(x)))
        return out.squeeze(1) if self.squeeze else out


def labelled(kind: str) -> mv.Study:
    """A study of a task, with some examples right and some wrong."""
    torch.manual_seed(3)
    model = Scores(1 if kind != "MultiLabel" else 3, squeeze=kind == "Regression").eval()
    inputs = torch.randn(N, 4)
    with torch.no_grad():
        out = model(inputs)
    if kind == "Binary":
        labels, task = (out[:, 0] > 0).long(), Binary()
        labels[:2] = 1 - labels[:2]
    elif kind == "MultiLabel":
        labels, task = (out > 0).long(), MultiLabel()
        labels[:2, 1] = 1 - labels[:2, 1]
    else:
        labels, task = out + 0.1, Regression(0.25)
        labels[:2] += 1.0
    return mv.Study(model, inputs, labels, GROUPS, task=task)


@pytest.mark.parametrize("kind", ["Binary", "MultiLabel", "Regression"])
def test_a_sweep_of_each_task_is_that_of_plain_hooks(kind: str) -> None:
    study = labelled(kind)
    effects = mv.sweep(study, progress=False)
    estimate = mv.estimate(study)
    assert isinstance(study.inputs, Tensor)
    with torch.no_grad():
        before = study.model(study.inputs)
    right = by_hand(study, before) > 0
    for row, unit in enumerate(effects.units):
        if unit.layer != "fc":
            continue
        after = without(study.model, unit.index, study.inputs)
        change = by_hand(study, after) - by_hand(study, before)
        assert torch.allclose(effects.margin_change[row], change, atol=1e-5)
        assert torch.equal(effects.correct[row], by_hand(study, after) > 0)
    assert right.tolist() == [False] * 2 + [True] * (N - 2)
    read = mv.readout(study, "fc:1", random_draws=2)
    assert read.groups["memorized"].before.correct == 2
    assert read.groups["clean"].before.accuracy == 1.0
    assert torch.equal(are_right(study.task, before_outputs(study, before), study.labels), right)
    assert estimate.margin_change.isfinite().all()
    assert mv.greedy(study, 2, budget=12, random_draws=2, progress=False).margin.shape[1] == 2


def before_outputs(study: mv.Study, raw: Tensor) -> Tensor:
    return study.task.outputs(raw)


def by_hand(study: mv.Study, raw: Tensor) -> Tensor:
    """Margins from the formulas in the docstrings."""
    if isinstance(study.task, Binary):
        return torch.where(study.labels == 1, raw[:, 0], -raw[:, 0])
    if isinstance(study.task, MultiLabel):
        return torch.where(study.labels == 1, raw, -raw).amin(1)
    return 0.25 - (raw - study.labels).abs()


# Several labels, and numbers ----------------------------------------------------------------------


def test_multi_label_by_hand() -> None:
    torch.manual_seed(0)
    logits, labels, task = torch.randn(40, 3), torch.randint(0, 2, (40, 3)), MultiLabel()
    logits[:6, 1] = 0.0
    exact = ((logits > 0).long() == labels).all(1)
    margin = task.margin(logits, labels)
    assert torch.equal(margin > 0, exact) and exact.any() and not exact.all()
    wanted = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none").mean(1)
    assert torch.allclose(task.loss(logits, labels), wanted)
    with pytest.raises(ValueError, match="gives 2 logits per example and the labels are of 3"):
        task.margin(logits[:, :2], labels)


@pytest.mark.parametrize("targets", [1, 3])
def test_regression_by_hand(targets: int) -> None:
    torch.manual_seed(0)
    predicted, wanted, task = torch.randn(30, targets), torch.randn(30, targets), Regression(1.0)
    labels = task.check_labels(wanted[:, 0] if targets == 1 else wanted, "labels")
    raw = predicted[:, 0] if targets == 1 else predicted
    outputs = task.outputs(raw)
    assert task.predictions(outputs).shape == raw.shape
    margin = task.margin(outputs, labels)
    assert torch.allclose(margin, 1.0 - (predicted - wanted).abs().amax(1))
    assert torch.allclose(task.loss(outputs, labels), (predicted - wanted).square().mean(1))
    column = task.outputs(predicted[:, :1])  # never broadcast against [n]
    assert task.margin(column, wanted[:, 0]).shape == (30,)
    with pytest.raises(ValueError, match="1 predictions per example and the labels hold 2 targets"):
        task.margin(column, torch.zeros(30, 2))


@pytest.mark.parametrize("tolerance", [0, -1.0, float("nan"), float("inf"), "1"])
def test_a_tolerance_is_a_positive_number(tolerance: Any) -> None:
    with pytest.raises(ValueError, match="tolerance is .*; give a positive number"):
        Regression(tolerance)


def test_image_text_in_half_precision_is_single() -> None:
    torch.manual_seed(0)
    pair = (torch.randn(20, 8).bfloat16(), torch.randn(20, 8).bfloat16())
    task = ImageText()
    outputs = task.outputs(pair)
    wanted = torch.cosine_similarity(pair[0].float(), pair[1].float())
    assert torch.allclose(task.margin(outputs, torch.ones(20)), wanted)
    assert torch.equal(task.predictions(outputs) == 1, wanted > 0)


# Labels -------------------------------------------------------------------------------------------

WRONG_LABELS: dict[str, tuple[Any, Any, str]] = {
    "floats for classes": (Classification(), np.array([0.5] * N), "task=mv.tasks.Regression"),
    "several for classes": (Classification(), torch.ones(N, 3), "task=mv.tasks.MultiLabel"),
    "a column for classes": (Classification(), torch.ones(N, 1), r"labels\[:, 0\]"),
    "maps for classes": (Classification(), torch.ones(N, 4, 4), "one position of several"),
    "a third class": (Binary(), torch.arange(N) % 3, "labels holds 2; mv.tasks.Binary needs"),
    "signs": (Binary(), torch.ones(N) * -1, "labels holds -1; mv.tasks.Binary needs"),
    "one each for several": (MultiLabel(), torch.ones(N), r"needs 0 or 1 for each example and cl"),
    "halves for several": (MultiLabel(), torch.ones(N, 2) / 2, "labels holds 0.5; mv.tasks.Mul"),
    "maps to predict": (Regression(1.0), torch.ones(N, 2, 2), r"needs targets, \[n\] or"),
    "gaps": (Regression(1.0), [1.0, float("nan")] * (N // 2), "labels holds nan; .* leave the"),
}


@pytest.mark.parametrize("wrong", WRONG_LABELS)
def test_labels_that_a_task_does_not_judge(wrong: str) -> None:
    task, labels, words = WRONG_LABELS[wrong]
    with pytest.raises(ValueError, match=words) as caught:
        mv.Study(Scores(3).eval(), torch.randn(N, 4), labels, GROUPS, task=task)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_labels_that_a_task_takes() -> None:
    def of(task: Any, labels: Any) -> Tensor:
        return mv.Study(Scores(3).eval(), torch.randn(N, 4), labels, GROUPS, task=task).labels

    assert of(Binary(), torch.ones(N, 1)).shape == (N,)
    assert of(Binary(), np.arange(N) > 3).dtype == torch.int64
    assert of(MultiLabel(), np.ones((N, 3), bool)).dtype == torch.int64
    assert of(Regression(1.0), list(range(N))).dtype == torch.float32
    assert of(Regression(1.0), np.linspace(0, 1, N)).dtype == torch.float64
    assert of(Regression(1.0), np.ones((N, 2), np.float32)).shape == (N, 2)
    needs = torch.ones(N, requires_grad=True)
    assert not of(Regression(1.0), needs).requires_grad


class Own:
    """A foreign task of four methods."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def outputs(self, raw: Tensor) -> Tensor:
        return raw

    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(1)

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return outputs[:, 0] - self.threshold

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return -outputs[:, 0]


def test_a_task_of_four_methods_still_serves() -> None:
    with pytest.raises(ValueError, match="labels holds 0.5, which is not a class"):
        mv.Study(Scores(3).eval(), torch.randn(N, 4), torch.ones(N) / 2, GROUPS, task=Own(0.1))
    study = mv.Study(Scores(3).eval(), torch.randn(N, 4), torch.zeros(N), GROUPS, task=Own(0.1))
    assert mv.sweep(study, progress=False).done.all()


class Strict(Classification):
    """A task that adds a parameter to a ready one, and does not call its ``__init__``."""

    def __init__(self, least: float) -> None:
        self.least = least

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return super().margin(outputs, labels) - self.least


def test_a_task_that_extends_a_ready_one() -> None:
    study = mv.Study(Scores(3).eval(), torch.randn(N, 4), torch.zeros(N), GROUPS, task=Strict(0.1))
    plain = mv.Study(study.model, study.inputs, study.labels, GROUPS)
    difference = mv.sweep(plain, progress=False).margin - mv.sweep(study, progress=False).margin
    assert torch.allclose(difference, torch.full((N,), 0.1))
    with pytest.raises(ValueError, match=r"example task=Strict\(outputs=1\)"):
        Strict(0.1).outputs((torch.ones(2, 8), torch.ones(2, 3)))


def test_saved_effects_of_another_tolerance_are_refused(tmp_path: Any) -> None:
    study = labelled("Regression")
    saved = tmp_path / "effects.safetensors"
    mv.sweep(study, progress=False).save(saved)
    assert mv.sweep(study, progress=False).load(saved, study).done.all()
    for task in (Regression(0.3), Regression(0.25, outputs=lambda out: out)):
        study.task = task
        with pytest.raises(ValueError, match="another task than this study has"):
            type(mv.sweep(study, progress=False)).load(saved, study)


def test_what_a_task_depends_on_is_told_in_full() -> None:
    from memviz.study import study_facts

    study = labelled("MultiLabel")

    def told(task: Any) -> str:
        study.task = task
        return study_facts(study)["task"]

    def column(k: int) -> Any:
        return lambda out: out[k]

    assert told(Classification()) == "Classification"
    assert told(Classification(outputs="scores")) == "Classification(which='scores')"
    assert told(Classification(outputs=column(0))) != told(Classification(outputs=column(1)))
    assert told(Classification(outputs=column(1))) == told(Classification(outputs=column(1)))
    assert told(Regression(0.1)) != told(Regression(0.1 + 1e-9))
    assert told(Own(0.1)) != told(Own(0.2)) and "0x" not in told(Own(object()))  # type: ignore


OUTPUTS = {
    "classes": (Classification(), torch.rand(2, 3), torch.tensor([0, 1])),
    "binary": (Binary(), torch.tensor([[-1.0, 1.0], [1.0, -1.0]]), torch.tensor([0, 1])),
    "labels": (MultiLabel(), torch.rand(2, 3), torch.tensor([[0, 1, 1], [1, 0, 0]])),
    "numbers": (Regression(0.1), torch.rand(2, 1), torch.rand(2)),
    "tokens": (Language(2, 2), torch.rand(2, 2, 5), torch.tensor([[0, 1], [1, 2]])),
    "density": (Density(), torch.rand(2), torch.rand(2)),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_other_shapes_and_types_are_judged_or_refused_in_a_sentence(kind: str) -> None:
    task, outputs, labels = OUTPUTS[kind]
    changed = [lambda t: t[..., None], lambda t: t[None], lambda t: t > 0, lambda t: -t - 1]
    pairs = [(change(outputs), labels) for change in (*changed, lambda t: t[0], lambda t: t[:0])]
    pairs += [(outputs, change(labels)) for change in (*changed, lambda t: t[0])]
    errors: list[Exception] = []
    for given, of in pairs:
        for judge in (partial(are_right, task), task.margin, task.loss):
            try:
                judge(given, of)
            except (ValueError, TypeError) as error:
                errors.append(error)
    assert len(errors) > len(pairs)
    for error in errors:
        assert (traceback.extract_tb(error.__traceback__)[-1].line or "").startswith("raise")


def test_a_label_without_a_logit_has_no_loss() -> None:
    logits = torch.rand(2, 3)
    for wrong in (-1, -100, 3):  # torch leaves -100 out
        with pytest.raises(ValueError, match=f"the labels hold {wrong}; give labels from 0 to 2"):
            Classification().loss(logits, torch.tensor([0, wrong]))
    whole = Classification().loss(logits, torch.tensor([0, 2]))
    assert torch.equal(Classification().loss(logits, torch.tensor([0, 2], dtype=torch.int8)), whole)


def test_whether_labels_are_right_is_never_asked_of_pairs_of_examples() -> None:
    numbers = torch.ones(2, 1)
    with pytest.raises(ValueError, match=r"labels have shape \(2, 1\) and the predictions \(2,\)"):
        are_right(Regression(0.1), numbers, torch.ones(2, 1).long())
