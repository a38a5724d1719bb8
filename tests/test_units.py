"""Sets of units: text, algebra, errors."""

import operator
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memviz.units import Layer, Unit, UnitSet, UnknownLayerError, check_units

NAMES = st.from_regex(r"[A-Za-z_][\w.\-]{0,9}", fullmatch=True)
UNITS = st.builds(Unit, NAMES, st.integers(0, 40))
SETS = st.lists(UNITS, max_size=30).map(UnitSet)
FEW = st.lists(st.builds(Unit, st.sampled_from("ab"), st.integers(0, 5))).map(UnitSet)


@given(SETS)
def test_text_round_trip(units: UnitSet) -> None:
    again = UnitSet.parse(str(units))
    assert again == units and hash(again) == hash(units)
    assert str(again) == str(units)
    assert eval(repr(units)) == units


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
    ],
)
def test_texts(text: str, printed: str) -> None:
    assert str(UnitSet.parse(text)) == printed


@pytest.mark.parametrize("text", ["fc", "fc:", "fc:a", "fc:1,", "fc:1-", "fc:-1", "fc 1", "a:b:1"])
def test_texts_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a set of units; write layer:indices, for example"):
        UnitSet.parse(text)


def test_a_negative_index() -> None:
    with pytest.raises(ValueError, match="unit fc:-3 is negative; units are counted from 0"):
        UnitSet({"fc": [2, -3]})
    with pytest.raises(ValueError, match="unit fc:-1 is negative"):
        UnitSet([Unit("fc", -1)])


@pytest.mark.parametrize(
    "given_as",
    [
        UnitSet([Unit("fc", 1), Unit("fc", 2)]),
        "fc:1,2",
        {"fc": [2, 1]},
        {"fc": range(1, 3), "empty": []},
        [Unit("fc", 2), Unit("fc", 1)],
        (unit for unit in (Unit("fc", 1), Unit("fc", 2))),
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


LAYERS = [Layer("conv1", "conv", 4, "conv2d"), Layer("fc", "linear", 10, "linear")]


def test_units_are_checked_against_layers() -> None:
    assert check_units("fc:9 conv1:0", LAYERS) == UnitSet.parse("conv1:0 fc:9")
    assert LAYERS[0].all() == UnitSet.parse("conv1:0-3")
    with pytest.raises(IndexError, match="layer 'fc' has 10 units, 0 to 9; there is no unit 12"):
        check_units("fc:1,12", LAYERS)
    with pytest.raises(KeyError) as caught:
        check_units("conf1:0", LAYERS)
    assert isinstance(caught.value, UnknownLayerError)
    assert str(caught.value) == (
        "there is no layer 'conf1' with units in this model; the nearest name is 'conv1'."
    )
    with pytest.raises(UnknownLayerError, match="the model has no layer with units"):
        check_units("fc:1", [])
