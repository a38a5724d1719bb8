"""What goes over the wire: arrays that decode back, true numbers, pictures, sizes."""

import io
import json
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import memviz as mv
from memviz.engine.record import Replay, intervention
from memviz.engine.sets import SetOutputs, random_reading, random_units, read
from memviz.engine.sweep import Effects, default_units, estimate_effects, new_effects, sweep_steps
from memviz.widgets.core import COLUMNS, SHEET, Pictures
from memviz.widgets.core import _messages as core_messages
from memviz.widgets.workbench import _messages as messages
from memviz.widgets.workbench._messages import Thumbnails
from tests.support.widgets import decoded, flat_study, pair_study, size, small_study

LIMIT = 4_000_000  # bytes a message
SOME = "conv4:1 fc:2"


@pytest.fixture(scope="module")
def study() -> mv.Study:
    return small_study()


@pytest.fixture(scope="module")
def swept(study: mv.Study) -> Effects:
    return mv.sweep(study, progress=False)


def tiles(study: mv.Study) -> np.ndarray:
    """Every thumbnail, cut out of the PNGs as the front end does it."""
    found = []
    for message in Thumbnails(Pictures.of(study)).at_once():
        assert message.content["count"] <= SHEET == 512
        sheet = np.asarray(Image.open(io.BytesIO(decoded(message)["png"].tobytes())))
        h, w = message.content["tile"]
        for j in range(message.content["count"]):
            y, x = j // message.content["columns"] * h, j % message.content["columns"] * w
            found.append(sheet[y : y + h, x : x + w])
    return np.stack(found)


# Packing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
def test_arrays_decode_back(dtype: str) -> None:
    given = {
        "matrix": np.arange(12, dtype=dtype).reshape(3, 4),
        "turned": np.arange(12, dtype=dtype).reshape(3, 4).T,
        "empty": np.zeros((0, 5), dtype),
        "edge": np.array([np.iinfo(dtype).max if dtype != "float32" else np.nan], dtype),
    }
    message = core_messages.pack({"type": "x"}, **given)
    assert [spec["name"] for spec in message.content["arrays"]] == list(given)
    for name, array in decoded(message).items():
        np.testing.assert_array_equal(array, given[name])
        assert array.dtype == given[name].dtype


# What never changes -------------------------------------------------------------------------------


def test_study_message_says_what_the_study_holds(study: mv.Study) -> None:
    message = core_messages.study_message(mv.Session(study), Pictures.of(study), [], [], [])
    content, arrays = message.content, decoded(message)
    assert content["name"] == "strokes"
    assert content["classes"] == ["ant", "bee", "cat", "dog"]
    assert content["groups"] == [
        {"name": "memorized", "count": 12},
        {"name": "clean", "count": 32},
        {"name": "test", "count": 12},
    ]
    assert content["examples"] == 60 and content["units"] == 20
    image = {"height": 8, "width": 8, "channels": 1, "ink": True, "asked": False}
    assert content["image"] == image
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "label": "uint16",
        "truth": "uint16",
        "group": "uint16",
    }
    np.testing.assert_array_equal(arrays["label"], study.labels)
    np.testing.assert_array_equal(arrays["truth"], study.true_labels)
    np.testing.assert_array_equal(arrays["group"][56:], 65535)
    for index, mask in enumerate(study.groups.values()):
        np.testing.assert_array_equal(arrays["group"] == index, mask)


def test_layers_follow_one_another_without_the_output_layer(study: mv.Study) -> None:
    content = core_messages.study_message(mv.Session(study), Pictures.of(study), [], [], []).content
    layers = content["layers"]
    assert [layer["name"] for layer in layers] == ["conv1", "conv2", "conv3", "conv4", "fc"]
    assert layers[0]["start"] == 0
    for before, after in pairwise(layers):
        assert after["start"] == before["start"] + before["units"]


def test_without_true_labels_the_truth_is_unknown() -> None:
    study = flat_study()
    message = core_messages.study_message(mv.Session(study), Pictures.of(study), [], [], [])
    assert set(decoded(message)["truth"].tolist()) == {core_messages.UNKNOWN}
    assert message.content["classes"] == ["0", "1", "2"]


# Readout ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["zero", "mean", "filter", "resample"])
@pytest.mark.parametrize("units", ["", SOME])
def test_readout_message_agrees_with_the_plain_function(
    study: mv.Study, units: str, how: str
) -> None:
    fresh = mv.readout(study, units, how, random_draws=0)
    replay, kind = Replay(study), intervention(how)
    chosen = replay.check(units)
    message = messages.readout_message(
        read(replay, chosen, replay.outputs(chosen, kind), kind), version=7
    )
    content, arrays = message.content, decoded(message)
    assert content["version"] == 7
    assert content["sentence"] == fresh.sentence
    assert (content["units"], content["of"]) == (len(fresh.units), 20)
    assert content["intervention_words"]
    for group in content["groups"]:
        expected = fresh.groups[group["name"]]
        for side, reading in (("before", expected.before), ("after", expected.after)):
            for field, value in group[side].items():
                assert value == getattr(reading, field), (group["name"], side, field)
        assert group["n"] == expected.after.n
        for field in ("right_to_wrong", "wrong_to_right", "now_true"):
            assert group[field] == getattr(expected, field)
    np.testing.assert_array_equal(arrays["before"], fresh.before)
    np.testing.assert_array_equal(arrays["after"], fresh.after)
    np.testing.assert_array_equal(arrays["change"], fresh.margin_change)
    assert [arrays[name].dtype.name for name in arrays] == ["uint16", "uint16", "float32"]


def test_the_random_units_are_those_of_the_plain_function(study: mv.Study) -> None:
    fresh = mv.readout(study, SOME, random_draws=5)
    replay, kind = Replay(study), intervention("zero")
    chosen = replay.check(SOME)
    sets = SetOutputs(replay, kind)
    draws = [random_reading(sets, random_units(replay.layers, chosen, seed)) for seed in range(5)]
    content = messages.random_message(draws, version=7, units=2, of=20).content
    assert (content["version"], content["draws"], content["of"]) == (7, 5, 20)
    assert content["words"] == "2 random units of the same layers"
    for group in content["groups"]:
        expected = fresh.random[group["name"]]
        assert group["accuracy"] == pytest.approx(expected[:, 0].mean())
        assert group["margin"] == pytest.approx(expected[:, 1].mean(), abs=1e-6)
        assert group["low"] <= group["accuracy"] <= group["high"]


def test_numbers_that_are_none_travel_as_null() -> None:
    study = flat_study()
    replay, kind = Replay(study), intervention("zero")
    outputs = replay.clean.clone()
    outputs[0] = torch.nan
    found = read(replay, replay.check("0:1"), outputs, kind)
    message = messages.readout_message(found, 1)
    json.dumps(message.content, allow_nan=False)
    assert message.content["groups"][0]["after"]["margin"] is None
    random = messages.random_message([{"test": (0.5, float("nan"))}], 1, 1, 20)
    json.dumps(random.content, allow_nan=False)


# Scores -------------------------------------------------------------------------------------------


def test_exact_scores_are_those_of_the_sweep(study: mv.Study, swept: Effects) -> None:
    estimate = mv.estimate(study)
    message = messages.effects_message(
        "effect", "label", swept, estimate, "logits", "zero", len(estimate.units)
    )
    content, arrays = message.content, decoded(message)
    assert (content["kind"], content["done"], content["total"]) == ("exact", 20, 20)
    np.testing.assert_allclose(arrays["value"], swept.scores().values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(arrays["state"], 2)
    assert arrays["lost"].shape == (20, 3) and arrays["lost"].dtype == np.uint16
    for index, name in enumerate(study.groups):
        np.testing.assert_array_equal(arrays["lost"][:, index], swept.lost(name))
    assert arrays["lost"].sum() > 0
    assert arrays["most"].dtype == np.uint32
    np.testing.assert_array_equal(arrays["most"], swept.most_lost(6))


def test_an_estimate_says_that_it_is_one(study: mv.Study) -> None:
    estimate = mv.estimate(study)
    message = messages.effects_message(
        "estimate", "label", None, estimate, "logits", "zero", len(estimate.units)
    )
    arrays = decoded(message)
    assert message.content["kind"] == "estimate"
    assert set(arrays) == {"value", "state"}
    np.testing.assert_array_equal(arrays["state"], 1)
    np.testing.assert_allclose(arrays["value"], estimate.scores().values, rtol=1e-5, atol=1e-6)


def test_half_a_sweep_marks_the_rest_as_estimates(study: mv.Study) -> None:
    replay, kind = Replay(study), intervention("zero")
    units = default_units(replay.layers)
    estimate = estimate_effects(replay, units, kind)
    half = new_effects(replay, units, kind)
    for _ in sweep_steps(replay, half, kind, order=[3, 11]):
        pass
    message = messages.effects_message(
        "effect", "label", half, estimate, "logits", "zero", len(estimate.units)
    )
    arrays = decoded(message)
    assert message.content["done"] == 2
    assert np.flatnonzero(arrays["state"] == 2).tolist() == [3, 11]
    known = arrays["state"] == 2
    np.testing.assert_allclose(arrays["value"][~known], messages.group_effect(estimate)[~known])
    np.testing.assert_allclose(arrays["value"][known], messages.group_effect(half)[known])
    assert (arrays["most"][~known] == 2**32 - 1).all()
    assert (arrays["most"][known] < 60).all()
    assert (arrays["lost"][~known] == 0).all()


def test_one_group_alone_is_its_own_measure() -> None:
    study = flat_study()
    effects = mv.sweep(study, progress=False)
    np.testing.assert_allclose(
        messages.group_effect(effects), effects.scores(against="").values, rtol=1e-5, atol=1e-6
    )


# Pictures -----------------------------------------------------------------------------------------


def test_strokes_are_ink_and_their_tiles_the_images(study: mv.Study) -> None:
    pictures = Pictures.of(study)
    assert pictures.ink and pictures.tile == (8, 8)
    full = pictures.full(torch.arange(60))
    assert full.dtype == np.uint8 and full.shape == (60, 8, 8, 1)
    np.testing.assert_array_equal(tiles(study), full[..., 0])
    assert full.min() == 0 and full.max() == 255


def test_the_ready_digits_are_ink(digits: mv.Study) -> None:
    pictures = Pictures.of(digits)
    assert pictures.ink
    shown = tiles(digits)
    assert shown.shape == (len(digits), 8, 8)
    np.testing.assert_array_equal(shown, pictures.full(torch.arange(len(digits)))[..., 0])


def test_photographs_are_never_ink() -> None:
    study = photographs(20, 16, 12)
    pictures = Pictures.of(study)
    assert not pictures.ink and pictures.shape == (16, 12, 3)
    np.testing.assert_array_equal(tiles(study), pictures.full(torch.arange(20)))


def test_images_given_are_shown_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 9, 7, 3), dtype=np.uint8)
    study = flat_study(30, images=images)
    pictures = Pictures.of(study)
    assert not pictures.ink
    np.testing.assert_array_equal(pictures.full(torch.tensor([4, 2])), images[[4, 2]])
    np.testing.assert_array_equal(tiles(study), images)


def test_grey_images_given_have_one_channel() -> None:
    images = np.random.default_rng(0).integers(0, 256, (30, 9, 7), dtype=np.uint8)
    study = flat_study(30, images=images)
    assert Pictures.of(study).shape == (9, 7, 1)
    np.testing.assert_array_equal(tiles(study), images)


def test_rows_of_a_table_become_strips() -> None:
    study = flat_study()
    pictures = Pictures.of(study)
    assert pictures.shape == (2, 3, 1)  # 5 columns, near square
    full = pictures.full(torch.arange(30)).reshape(30, 6)
    assert isinstance(study.inputs, torch.Tensor)
    order = study.inputs.numpy().argsort(1, kind="stable")
    assert (np.diff(np.take_along_axis(full[:, :5], order, 1).astype(int), axis=1) >= 0).all()


def test_a_dict_of_inputs_is_shown_by_its_first() -> None:
    assert Pictures.of(pair_study()).shape == (2, 2, 1)


def test_large_images_become_small_tiles() -> None:
    study = photographs(4, 128, 96)
    assert Pictures.of(study).tile == (64, 48)
    assert tiles(study).shape == (4, 64, 48, 3)
    assert Pictures.of(study).full(torch.tensor([0])).shape == (1, 128, 96, 3)


def test_images_without_a_difference_are_drawn() -> None:
    study = flat_study(4)
    study.inputs = torch.ones(4, 5)
    assert tiles(study).shape == (4, 2, 3)


def photographs(n: int, height: int, width: int) -> mv.Study:
    """Noise in colour, the picture that is hardest to compress."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(model, nn.Linear(2, 2)).eval()
    inputs = torch.rand(n, 3, height, width, generator=generator)
    return mv.Study(model, inputs, torch.zeros(n), {"test": range(n)})


# Sizes --------------------------------------------------------------------------------------------


def test_25_000_units_fit_in_small_messages() -> None:
    study = flat_study(12, units=25_000, groups={"memorized": range(4), "clean": range(4, 12)})
    session = mv.Session(study)
    estimate = mv.estimate(study)
    exact = estimate
    found = messages.effects_message(
        "effect", "label", exact, estimate, "logits", "zero", len(estimate.units)
    )
    assert decoded(found)["most"].shape == (25_000, 6)
    assert size(found) < LIMIT / 4
    assert size(core_messages.study_message(session, Pictures.of(study), [], [], [])) < LIMIT / 4
    session.ablate({"0": range(0, 25_000, 2)})
    assert len(str(session.units)) < 100_000


def test_50_000_examples_fit_in_small_messages() -> None:
    study = wide_study(50_000)
    pictures, replay = Pictures.of(study), Replay(study)
    assert size(core_messages.study_message(mv.Session(study), pictures, [], [], [])) < LIMIT / 4
    found = read(replay, replay.check("1:1"), replay.outputs("1:1"), intervention("zero"))
    assert size(messages.readout_message(found, 1)) < LIMIT / 4
    thumbnails, got = Thumbnails(pictures), []
    assert list(thumbnails.at_once()) == []  # a view asks for those that it shows
    view = object()
    wanted = torch.arange(49_999, 0, -421)
    thumbnails.ask(view, wanted)
    list(thumbnails.steps(lambda sink, message: got.append((sink, message))))
    assert {id(sink) for sink, _ in got} == {id(view)} and len(got) == 2
    shown = {}
    for _, message in got:
        assert size(message) < LIMIT and message.content["columns"] == COLUMNS
        arrays = decoded(message)
        sheet = np.asarray(Image.open(io.BytesIO(arrays["png"].tobytes())))
        for j, example in enumerate(arrays["examples"].tolist()):
            y, x = j // COLUMNS * 12, j % COLUMNS * 12
            shown[example] = sheet[y : y + 12, x : x + 12]
    assert sorted(shown) == sorted(wanted.tolist())
    for example, tile in shown.items():
        assert np.array_equal(tile, pictures.full(torch.tensor([example]))[0, ..., 0])
    page = thumbnails.for_page()  # what was seen, and then as many others as fit
    assert page[:2] == [message for _, message in got] and sum(map(size, page)) < 2_100_000
    drawn = [decoded(message)["examples"].tolist() for message in page]
    every, others = list(chain(*drawn)), list(chain(*drawn[2:]))
    assert len(set(every)) == len(every) and len(others) > 2_000
    first = [i for i in range(99) if i not in shown]
    assert others[:4] == [0, 100, 1, 101] and [i for i in others if i < 99] == first
    words = messages.pictured_words(page, 50_000)
    assert words.startswith(f"this page has the pictures of {len(every):,} of 50,000 ")


class Torn(torch.utils.data.Dataset):
    """Grey images of 12 × 12, one of which can't be read once ``torn`` is set."""

    torn = False

    def __len__(self) -> int:
        return 6000

    def __getitem__(self, index: int) -> Any:
        if self.torn and index == 300:
            raise OSError("image file is truncated")
        return torch.full((1, 12, 12), index / 6000), index % 2


def test_a_page_stops_at_an_example_that_cannot_be_read() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    dataset = Torn()
    pictures = Pictures.of(mv.Study(model, dataset, groups={"test": range(6000)}))
    thumbnails = Thumbnails(pictures)
    thumbnails.ask(object(), torch.tensor([5000]))
    list(thumbnails.steps(lambda sink, message: None))
    dataset.torn = True
    page = [decoded(message)["examples"].tolist() for message in thumbnails.for_page()]
    assert page[0] == [5000]
    assert list(chain(*page[1:])) == list(range(256))  # the sheets of 64 before it
    thumbnails.ask(object(), torch.tensor([300]))  # who asks for it is told
    with pytest.raises(ValueError, match="example 300 of the dataset can't be read"):
        list(thumbnails.steps(lambda sink, message: None))


def test_old_requests_are_dropped_and_the_newest_comes_first() -> None:
    thumbnails, got = Thumbnails(Pictures.of(wide_study(6000))), []
    for first in range(40):
        thumbnails.ask(object(), torch.tensor([first]))
    list(thumbnails.steps(lambda _, message: got.append(decoded(message)["examples"].tolist())))
    assert got == [[first] for first in range(39, 23, -1)]


def test_the_largest_tiles_fit_too() -> None:
    study = photographs(600, 64, 64)
    sheets = Thumbnails(Pictures.of(study)).at_once()
    assert max(map(size, sheets)) < LIMIT
    assert tiles(study).shape == (600, 64, 64, 3)


def wide_study(n: int) -> mv.Study:
    """Grey images of 12 × 12 behind a layer of 8 units."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    given: dict[str, Any] = {"groups": {"memorized": range(100), "clean": range(100, n)}}
    images = torch.rand(n, 1, 12, 12, generator=generator)
    return mv.Study(model, images, torch.arange(n) % 2, **given)


class Photos(torch.utils.data.Dataset):
    """Pictures of several sizes, which a transform crops and standardizes."""

    def __init__(self) -> None:
        self.transform: Any = lambda photo: (
            torch.tensor(np.array(photo.resize((8, 8)))).permute(2, 0, 1) / 99.0 - 1
        )

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        photo = Image.new("RGB", (40 + 4 * index, 40), (12 * index, 0, 200))
        return (photo if self.transform is None else self.transform(photo)), index % 2


def test_a_dataset_is_shown_by_its_own_pictures() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    dataset = Photos()
    study = mv.Study(model, dataset, groups={"memorized": range(4), "clean": range(4, 20)})
    pictures = Pictures.of(study)
    assert pictures.own and pictures.on_demand and pictures.shape == (40, 40, 3)
    assert pictures.full(torch.tensor([0]))[0, 0, 0].tolist() == [0, 0, 200]
    assert pictures.full(torch.tensor([9]))[0, 20, 20].tolist() == [108, 0, 200]
    assert pictures.full(torch.tensor([9]))[0, 0, 0].tolist() == [0, 0, 0]  # whole, with a margin
    assert dataset.transform is not None  # a copy without it was read
    page = Thumbnails(pictures).for_page()
    assert [message.content["count"] for message in page] == [20]
    part = torch.utils.data.Subset(dataset, [5, 3])
    of_part = mv.Study(model, part, groups={"test": range(2)})
    assert Pictures.of(of_part).full(torch.tensor([1]))[0, 20, 20].tolist() == [36, 0, 200]


def test_a_dataset_without_pictures_is_shown_by_its_inputs() -> None:
    images = torch.rand(30, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    data = torch.utils.data.TensorDataset(images, torch.arange(30) % 2)
    lazy = Pictures.of(mv.Study(model, data, groups={"test": range(30)}))
    whole = Pictures.of(mv.Study(model, images, torch.arange(30) % 2, {"test": range(30)}))
    some = torch.tensor([7, 29])
    assert not lazy.own and np.array_equal(lazy.full(some), whole.full(some))
