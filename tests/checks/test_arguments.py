"""Arguments are held against signatures; indices come in every form; each refusal is a sentence."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.checks import ArgumentError, Count, Seed, Share, as_indices, checked


@checked
def called(
    n: int = 1,
    x: float = 0.5,
    on: bool = True,
    name: str | None = None,
    values: Tensor | None = None,
    names: Sequence[str] = (),
    by_name: Mapping[str, float] | None = None,
    pair: tuple[int, str] = (0, ""),
    model: nn.Module | None = None,
    stop: Callable[[], bool] | None = None,
    study: mv.Study | None = None,
    count: Count = 1,
    seed: Seed = 0,
    share: Share = 0.5,
    numbers: Sequence[int] = (),
    table: np.ndarray | None = None,
    scores: Sequence[mv.Scores] = (),
    anything: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return dict(locals())


WRONG = [
    ({"n": 1.5}, "n is 1.5; give a whole number."),
    ({"n": True}, "n is True; give a whole number."),
    ({"n": None}, "n is None; give a whole number."),
    ({"n": torch.tensor([1, 2])}, r"n is torch.int64 of shape \(2,\); give a whole number."),
    ({"x": math.nan}, "x is nan; give a number."),
    ({"x": "0.5"}, "x is '0.5'; give a number."),
    ({"on": "yes"}, "on is 'yes'; give True or False."),
    ({"name": 3}, "name is 3; give text."),
    ({"name": b"x"}, "name is b'x'; give text."),
    ({"values": ["a"]}, "values holds str, not numbers; give a tensor."),
    ({"values": torch.zeros(2, device="meta")}, "values is a tensor on the meta device"),
    ({"values": torch.zeros(2, dtype=torch.complex64)}, "values is a complex tensor"),
    ({"values": np.full((2, 2), None)}, "values holds NoneType, not numbers; give a tensor."),
    (
        {"table": np.full((2, 2), None)},
        "table is object of shape .2, 2.; give an array of numbers.",
    ),
    ({"n": np.uint64(2**63)}, "n is 9223372036854775808; give a whole number below 2.*63."),
    ({"names": "fc"}, "names is 'fc'; give a list of text."),
    ({"names": ["fc", None]}, r"names is \['fc', None\]; give a list of text."),
    ({"names": {"fc": 1}}, "names is .*; give a list of text."),
    ({"by_name": {"a": "b"}}, "by_name is .*; give a dict of numbers."),
    ({"by_name": ["a"]}, "by_name is .*; give a dict of numbers."),
    ({"pair": (1,)}, r"pair is \(1,\); give 2 values: a whole number, text."),
    ({"model": nn.Linear}, "model is the class Linear; give a torch.nn.Module."),
    ({"stop": True}, "stop is True; give a function."),
    ({"study": "digits"}, "expected a Study, got str; build one from the model and its data"),
    ({"study": mv.Study}, "expected a Study, got the class Study; build one"),
    ({"scores": 3}, "scores is 3; give a list of Scores."),
    ({"anything": 3}, "anything is 3; give a dict."),
    (
        {"model": nn.Linear(2, 2).state_dict()},
        r"model is a dict of tensors \(weight, bias\); give a",
    ),
    ({"count": 0}, "count is 0; give a whole number from 1 to 1000000000."),
    ({"count": 2**70}, "count is .*; give a whole number from 1"),
    ({"seed": -1}, "seed is -1; give a whole number from 0 to 9223372036854775807."),
    ({"seed": 2**63}, "seed is 9223372036854775808; give a whole number from 0"),
    ({"share": 1.5}, "share is 1.5; give a number from 0 to 1."),
    ({"numbers": [1, 0.5]}, r"numbers is \[1, 0.5\]; give a list of whole numbers."),
    ({"numbers": torch.zeros(2, 2, dtype=torch.int64)}, "numbers is torch.int64 of shape"),
    ({"name": ["x" * 10_000]}, "name is .*; give text."),
]


@pytest.mark.parametrize(("given", "words"), WRONG)
def test_a_wrong_argument_is_named_and_quoted(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words) as caught:
        called(**given)
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, ValueError)
    assert len(str(caught.value)) <= 400


def test_numbers_of_other_packages_become_pythons_own() -> None:
    one = called(
        n=np.int64(3),  # type: ignore[arg-type]
        x=np.float32(0.5),  # type: ignore[arg-type]
        on=np.bool_(False),  # type: ignore[arg-type]
        seed=torch.tensor(2),  # type: ignore[arg-type]
        values=[1.0, 2.0],  # type: ignore[arg-type]
        numbers=np.array([1, 2]),  # type: ignore[arg-type]
        pair=[1, "a"],  # type: ignore[arg-type]
    )
    kinds = {name: type(one[name]) for name in ("n", "x", "on", "seed", "numbers", "pair")}
    assert kinds == {"n": int, "x": float, "on": bool, "seed": int, "numbers": list, "pair": tuple}
    assert isinstance(one["values"], Tensor)


def test_what_fits_is_handed_on_as_it_is() -> None:
    names, values = ["fc"], torch.zeros(2, requires_grad=True)
    one = called(names=names, values=values)
    assert one["names"] is names and one["values"] is values


def test_missing_and_unknown_arguments_are_told_by_python() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'examples'"):
        called(examples=3)  # type: ignore[call-arg]


FORMS: dict[str, Callable[[list[int]], Any]] = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "int16": lambda ids: np.array(ids, np.int16),
    "uint8": lambda ids: torch.tensor(ids, dtype=torch.uint8),
    "int32": lambda ids: torch.tensor(ids, dtype=torch.int32),
    "uint64": lambda ids: np.array(ids, np.uint64),
    "Series": pd.Series,
    "Index": pd.Index,
    "zero-dimensional tensors": lambda ids: [torch.tensor(i) for i in ids],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_indices_is_the_same(form: str) -> None:
    assert as_indices("examples", FORMS[form]([4, 0, 2]), 6).tolist() == [4, 0, 2]


@pytest.mark.parametrize("form", [list, np.array, torch.tensor, pd.Series])
def test_a_bool_mask_is_its_indices(form: Callable[[list[bool]], Any]) -> None:
    mask = [True, False, False, True, False, True]
    assert as_indices("examples", form(mask), 6).tolist() == [0, 3, 5]


NO_INDICES = [
    ([], "examples is empty: no examples to run; name at least one."),
    ([6], "examples names 6; this study has 6 examples, 0 to 5."),
    ([-1], "examples names -1; this study has 6 examples"),
    ([0.0, 1.0], "examples holds fractions or floating-point numbers; give indices from 0 to 5"),
    ([math.nan], "examples holds fractions"),
    (["a"], "examples holds str, not numbers"),
    ("01", "examples is '01', not numbers"),
    ({0, 1}, r"examples is \{0, 1\}, not numbers"),
    ([[0], [1]], r"examples is of shape \(2, 1\)"),
    (3, "examples is 3, not numbers"),
    (torch.tensor(3), "examples is a single number"),
    ([0, 1, 1, 0, 0, 1], "names an example twice, being a mask of ones and zeros"),
    ([True] * 5, r"examples is a mask of shape \(5,\) for 6 examples"),
    ([False] * 6, "examples is a mask without a True"),
    ([2**63], "examples holds"),
    ([2**70], "examples holds"),
]


@pytest.mark.parametrize(("given", "words"), NO_INDICES)
def test_what_is_no_index_is_refused(given: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        as_indices("examples", given, 6)


def test_an_example_may_come_twice_unless_it_must_not() -> None:
    assert as_indices("examples", [2, 2], 6).tolist() == [2, 2]
    with pytest.raises(ValueError, match="examples names an example twice; give each index once"):
        as_indices("examples", [2, 2], 6, each_once=True)


def study_of(inputs: Tensor) -> mv.Study:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    groups = {"memorized": [0, 1], "clean": range(2, 6)}
    return mv.Study(model, inputs, torch.arange(6) % 3, groups)


@pytest.mark.parametrize("form", [list, np.array, pd.Series])
def test_answers_do_not_depend_on_the_form(form: Callable[[list[int]], Any]) -> None:
    study, ids = study_of(torch.randn(6, 4)), [3, 1]
    for call in (
        lambda examples: mv.sweep(study, examples=examples, progress=False).margin_change,
        lambda examples: mv.estimate(study, examples=examples).margin_change,
        lambda examples: mv.attribute_inputs(study, examples, n_steps=4),
    ):
        assert torch.equal(call(form(ids)), call(torch.tensor(ids)))
    path = mv.greedy(study, 2, examples=form([0, 1, 2]), random_draws=1, seed=np.int64(2))
    assert path.order == mv.greedy(study, 2, examples=torch.tensor([0, 1, 2]), seed=2).order


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_study_refuses_inputs_that_are_no_numbers(bad: float) -> None:
    inputs = torch.randn(6, 4)
    inputs[3, 2] = bad
    with pytest.raises(ValueError, match=f"inputs of example 3 holds {bad}; leave the example out"):
        study_of(inputs)
