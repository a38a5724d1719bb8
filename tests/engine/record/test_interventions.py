"""Interventions by name: what is taken, what is refused in one sentence, and their text."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import memviz as mv
from memviz.engine.record import Intervention, intervention

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.one_of(NUMBERS.map(mv.Constant), NUMBERS.map(mv.Scale)))
def test_the_text_means_the_same_number(how: Intervention) -> None:
    assert intervention(str(how)) == how


@given(st.integers(0, 2**64 - 1))
def test_the_text_means_the_same_seed(seed: int) -> None:
    assert intervention(str(mv.Resample(seed))) == mv.Resample(seed)


def test_short_numbers_stay_short() -> None:
    assert [str(mv.Constant(v)) for v in (0.5, 2, 1e-7)] == [
        "constant 0.5",
        "constant 2",
        "constant 1e-07",
    ]
    assert str(mv.Scale(0.1234567891)) == "scale 0.1234567891"


@pytest.mark.parametrize(
    "value", [np.float32(0.5), np.float64(0.5), torch.tensor(0.5), Fraction(1, 2)]
)
def test_numbers_of_other_kinds_are_taken(value: float) -> None:
    assert mv.Constant(value) == mv.Constant(0.5) and str(mv.Scale(value)) == "scale 0.5"
    assert mv.Resample(np.int64(3)) == mv.Resample(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "zeros", "zero 1", "mean 2", "filter 0", "constant", "scale", "constant 1 2"),
        *("scale x", "resample 1 2", "resample 0.5", "resample x", "Zero", "x" * 10_000),
    ],
)
def test_names_of_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="is not an intervention; use 'zero', 'mean'") as caught:
        intervention(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("given_as", [None, 0, b"zero", ["zero"], mv.Zero])
def test_other_things_are_refused(given_as: object) -> None:
    with pytest.raises(ValueError, match="is not an intervention"):
        intervention(given_as)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
def test_numbers_are_finite(number: str) -> None:
    for kind, words in (
        ("scale", "the factor of a scale"),
        ("constant", "the value of a constant"),
    ):
        with pytest.raises(ValueError, match=f"{words} is -?(nan|inf); give a finite number"):
            intervention(f"{kind} {number}")


@pytest.mark.parametrize("value", [None, "0.5", 1j, True, 10**400, torch.ones(2)])
def test_values_are_numbers(value: object) -> None:
    with pytest.raises(ValueError, match=r"the value of a constant is .*; give a finite number"):
        mv.Constant(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, None, True, "3"])
def test_seeds_are_whole_numbers(seed: object) -> None:
    with pytest.raises(
        ValueError, match="the seed of a resample is .*; give a whole number from 0"
    ):
        mv.Resample(seed)  # type: ignore[arg-type]
    assert intervention("resample") == mv.Resample(0)


def test_a_constant_fits_its_activation() -> None:
    assert mv.Constant(7e4).replace(torch.zeros(1), None).item() == 7e4
    with pytest.raises(
        ValueError, match=r"constant 70000 is larger than an activation of torch.fl"
    ):
        mv.Constant(7e4).replace(torch.zeros(1, dtype=torch.float16), None)
    study = mv.Study(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)).eval(),
                     torch.randn(4, 2), torch.arange(4) % 2, {"test": range(4)})  # fmt: skip
    for ask in (mv.sweep, lambda study, how: mv.readout(study, "0:1", how)):
        with pytest.raises(ValueError, match=r"constant 1e\+39 is larger than an activation of"):
            ask(study, how="constant 1e39")


@pytest.mark.parametrize("seed", [torch.tensor([1, 2]), 1.5, "3", True, -1, 2**64, None])
def test_seeds_that_are_no_whole_number_get_one_sentence(seed: object) -> None:
    with pytest.raises(ValueError, match="give a whole number from 0 to"):
        mv.Resample(seed)  # type: ignore[arg-type]
