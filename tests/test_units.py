"""Sets of units: text, algebra, errors."""

import json
import operator
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memviz.units import Layer, Unit, UnitSet, UnknownLayerError, check_units

NAMES = st.from_regex(r"[A-Za-z_][\w.\-]{0,9}", fullmatch=True)
ANY_NAMES = st.text(max_size=8) | st.text(" :,\"'\\\n\t-019a\u2028\ufeffö", max_size=8)
UNITS = st.builds(Unit, NAMES | ANY_NAMES, st.integers(0, 40))
SETS = st.lists(UNITS, max_size=30).map(UnitSet)
LAYER = Layer("fc", "linear", 10, "linear")
FEW = st.lists(st.builds(Unit, st.sampled_from("ab"), st.integers(0, 5))).map(UnitSet)


@given(SETS)
def test_text_round_trip(units: UnitSet) -> None:
    again = UnitSet.parse(str(units))
    assert again == units and hash(again) == hash(units)
    assert str(again) == str(units)
    assert eval(repr(units)) == units


@given(ANY_NAMES, st.integers(0, 9))
@example('"', 0)
@example('"a"', 1)
@example("\ud800", 2)
@example("a", 0)
def test_any_name_survives_its_text(name: str, index: int) -> None:
    unit = Unit(name, index)
    assert set(UnitSet.parse(f" a:1\n{unit}\tb:2")) == {Unit("a", 1), unit, Unit("b", 2)}
    assert str(unit) == str(UnitSet([unit])) and "\n" not in str(unit)


@given(NAMES)
def test_ordinary_names_are_not_quoted(name: str) -> None:
    assert str(Unit(name, 3)) == f"{name}:3"


STORE = Path(__file__).parents[1] / "memviz/widgets/core/static/store.js"


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node")
@settings(max_examples=5, deadline=None)
@given(st.lists(NAMES | ANY_NAMES, min_size=40, max_size=60, unique=True))
def test_views_write_and_read_the_same_text(names: list[str]) -> None:
    layers = [{"name": name, "start": 4 * k, "units": 4} for k, name in enumerate(names)]
    chosen = UnitSet({name: [0, 2, 3] for name in names})
    rows = [4 * k + index for k in range(len(names)) for index in (0, 2, 3)]
    code = f"""import {{ parseUnits, formatUnits }} from {json.dumps(STORE.as_uri())};
    const [layers, text, rows] = {json.dumps([layers, str(chosen), rows])};
    console.log(JSON.stringify([parseUnits(text, layers), formatUnits(rows, layers)]));"""
    command = ["node", "--no-warnings", "--input-type=module"]
    answer = subprocess.run(command, input=code, capture_output=True, text=True, check=True)
    read, written = json.loads(answer.stdout)
    assert read == rows and UnitSet.parse(written) == chosen


@given(st.lists(UNITS, max_size=30))
def test_a_set_of_units_is_a_set(units: list[Unit]) -> None:
    found = UnitSet(units)
    assert set(found) == set(units) and len(found) == len(set(units))
    assert all(unit in found for unit in units)
    assert bool(found) == bool(units)
    for indices in found.layers.values():
        assert list(indices) == sorted(set(indices))


@pytest.mark.parametrize("operation", [operator.or_, operator.and_, operator.sub, operator.xor])
@given(FEW, FEW)
def test_algebra_is_that_of_sets(
    operation: Callable[[UnitSet, UnitSet], UnitSet], mine: UnitSet, theirs: UnitSet
) -> None:
    assert set(operation(mine, theirs)) == operation(set(mine), set(theirs))


@given(FEW, FEW)
def test_toggling_twice_is_nothing(mine: UnitSet, theirs: UnitSet) -> None:
    assert mine ^ theirs ^ theirs == mine


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("layer3.0.conv2:5,17 fc:0-9", "layer3.0.conv2:5,17 fc:0-9"),
        ("fc:3,1,2", "fc:1-3"),
        ("fc:1 fc:3 fc:1", "fc:1,3"),
        ("  a:1\n b:2 ", "a:1 b:2"),
        ("", ""),
        ("fc:4-4", "fc:4"),
        ("fc:1,2", "fc:1,2"),
        (":0", ":0"),  # a model that is itself a layer has the empty name
        ('"my layer":5,3 "fc":1', '"my layer":3,5 fc:1'),
        ("a,b:1 it's:2", '"a,b":1 "it\'s":2'),  # as version 0.1.0 wrote them
        ("fc:0-9,5-12,3", "fc:0-12"),
    ],
)
def test_texts(text: str, printed: str) -> None:
    assert str(UnitSet.parse(text)) == printed


@pytest.mark.parametrize(
    "text",
    [
        *("fc", "fc:", "fc:a", "fc:1,", "fc:1-", "fc:-1", "fc 1", "a:b:1", "my fc:1", "fc:1-2-3"),
        *('"a b:1', '"\\x":1', '"a":1b', "fc:٣"),
    ],
)
def test_texts_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a set of units; write layer:indices, for example"):
        UnitSet.parse(text)


def test_a_negative_index() -> None:
    with pytest.raises(ValueError, match="unit fc:-3 is negative; units are counted from 0"):
        UnitSet({"fc": [2, -3]})
    with pytest.raises(ValueError, match="unit fc:-1 is negative"):
        UnitSet([Unit("fc", -1)])


@pytest.mark.parametrize(
    ("given_as", "words"),
    [
        ("fc:5-2", "the range '5-2' of layer 'fc' runs backwards"),
        ("0:0-9999999", "there is no unit 9999999 of layer '0'"),
        ("fc:" + "9" * 5000, "no layer has more than 1,048,576"),
        ({"fc": range(10**9)}, "there is no unit 999999999 of layer 'fc'"),
        ({"fc": "12"}, "the units of layer 'fc' are given as '12'; give a list of indices"),
        ({"fc": 3}, "the units of layer 'fc' are given as 3; give a list of indices"),
        ({"fc": [1.0]}, "hold 1.0; indices are whole numbers from 0"),
        ({"fc": [float("nan")]}, "hold nan; indices are whole numbers"),
        ({"fc": np.array([True, False])}, "hold True; .* of a mask, give the indices"),
        ({"fc": torch.tensor([[1]])}, r"hold \[1\]; indices are whole numbers"),
        ({0: [1]}, "a layer is named 0; names of layers are texts, for example '0'"),
        ([Unit("fc", "a")], "hold 'a'; indices are whole numbers"),  # type: ignore[arg-type]
        (["fc:0", 3], "3 is not a unit; give text"),
        ([LAYER], "is not a unit; give text"),
        (torch.tensor(3), "expected units, got 3; give text"),
        (None, "expected units, got None; give text"),
        (b"fc:1", "expected units, got b'fc:1'"),
        ("x" * 10_000, "x…' is not a set of units"),
    ],
)
def test_what_is_no_set_is_refused_at_once(given_as: object, words: str) -> None:
    start = time.perf_counter()
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        UnitSet.of(given_as)  # type: ignore[arg-type]
    assert time.perf_counter() - start < 0.5 and len(str(caught.value)) < 500


def test_operators_take_whatever_makes_a_set() -> None:
    units = UnitSet.parse("fc:1,2")
    assert units | "fc:3" == UnitSet.parse("fc:1-3") and units - Unit("fc", 1) == units & ["fc:2"]
    with pytest.raises(TypeError, match="expected units, got 3; give text"):
        units | 3  # type: ignore[operator]


def test_only_text_is_parsed() -> None:
    with pytest.raises(TypeError, match="is not text; make a set of it with UnitSet.of"):
        UnitSet.parse(Unit("fc", 1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given_as",
    [
        UnitSet([Unit("fc", 1), Unit("fc", 2)]),
        "fc:1,2",
        {"fc": [2, 1]},
        {"fc": range(1, 3), "empty": []},
        [Unit("fc", 2), Unit("fc", 1)],
        (unit for unit in (Unit("fc", 1), Unit("fc", 2))),
        ["fc:1", "fc:2"],
        ("fc:1,2", Unit("fc", 1), UnitSet.parse("fc:2"), ("fc", 2)),
        np.array(["fc:1", "fc:2"]),
        {"fc": np.array([2, 1], np.uint8)},
        {"fc": torch.tensor([1, 2])},
        {"fc": [np.int64(1), torch.tensor(2)]},
        {"fc": pd.Series([1, 2], index=["a", "b"])},
    ],
)
def test_what_may_stand_for_a_set(given_as: object) -> None:
    assert UnitSet.of(given_as) == UnitSet.parse("fc:1,2")  # type: ignore[arg-type]
    assert UnitSet.of(Unit("fc", 1)) == UnitSet.parse("fc:1")


def test_it_does_not_change() -> None:
    units = UnitSet.parse("fc:1")
    units.layers["fc"] = (9,)
    assert str(units) == "fc:1"
    with pytest.raises(AttributeError):
        units.other = 1  # type: ignore[attr-defined]


def test_a_unit() -> None:
    layer, index = Unit("conv4", 59)
    assert (layer, index, str(Unit("conv4", 59))) == ("conv4", 59, "conv4:59")
    assert Unit("a", 2) < Unit("a", 10) < Unit("b", 0)
    assert "conv4:59" not in UnitSet.parse("conv4:59")  # a text is no unit


LAYERS = [Layer("conv1", "conv", 4, "conv2d"), LAYER]


def test_units_are_checked_against_layers() -> None:
    assert check_units("fc:9 conv1:0", LAYERS) == UnitSet.parse("conv1:0 fc:9")
    assert LAYERS[0].all() == UnitSet.parse("conv1:0-3")
    with pytest.raises(IndexError, match="layer 'fc' has 10 units, 0 to 9; there is no unit 12"):
        check_units("fc:1,12", LAYERS)
    with pytest.raises(KeyError) as caught:
        check_units("conf1:0", LAYERS)
    assert isinstance(caught.value, UnknownLayerError)
    assert str(caught.value) == (
        "there is no layer 'conf1' with units in this model; the nearest name is 'conv1' "
        "(memviz E10)."
    )
    with pytest.raises(UnknownLayerError, match="the model has no layer with units"):
        check_units("fc:1", [])
