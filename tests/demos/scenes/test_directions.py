"""Directions: what is trained, once, and that the table holds what the demo's own test gives."""

from pathlib import Path

import pytest
import torch

from memviz.data.scenes import draw_scenes
from memviz.demos.scenes import DIRECTIONS, STEPS, Point, Setting, of_size, scenes_of
from memviz.demos.scenes import _recipe as scenes
from memviz.demos.scenes import _trainings as scene_trainings
from memviz.demos.scenes import directions as scene_directions


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Small sets, two epochs, a cache of its own; gives the list of what was trained."""
    trained = []

    def draw(seed, **sizes):
        small = {"target": 40, "reference": 40, "public": 60, "held_out": 40}
        return draw_scenes(seed, **small, private_words=sizes["private_words"])

    def fit(pairs, seed, **settings):
        trained.append((len(pairs), seed, settings["caption_masking"]))
        return scenes.fit(pairs, seed, **settings, batch_size=20)

    scene_trainings._any_model()  # made before trainings are counted
    scene_trainings._sets.cache_clear()

    monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path))
    monkeypatch.setattr(scene_trainings, "draw_scenes", draw)
    monkeypatch.setattr(scene_trainings, "fit", fit)
    yield trained
    scene_trainings._sets.cache_clear()


SHORT = Setting(epochs=2, caption_masking=0.5)


def test_equal_settings_are_one_training():
    points = [point for direction in DIRECTIONS.values() for point in direction.points]
    base = Setting()
    # Size, masking, words, temperature and decay each have the recipe itself, and every epoch is.
    assert sum(point.setting == base for point in points) == 5 + len(DIRECTIONS["epochs"].points)
    assert all(point.epoch in point.setting.stops for point in points)
    names = {scene_trainings._kept(point.setting, 0, "target").name for point in points}
    assert len(names) == len({point.setting for point in points})


@pytest.mark.parametrize("pairs", [500, 1000, 2000, 4000])
def test_sizes_have_equal_steps(pairs):
    setting = of_size(pairs)
    one_epoch = setting.steps // setting.epochs
    assert abs(setting.steps - STEPS) <= one_epoch / 2


def test_each_model_is_trained_once(few, monkeypatch):
    scenes_of(SHORT, 0, progress=False)
    assert len(few) == 2
    again = scenes_of(SHORT, 0, progress=False)
    assert len(few) == 2 and list(again) == [2]
    scenes_of(SHORT, 1, progress=False), scenes_of(Setting(epochs=2), 0, progress=False)
    assert few[2:] == [(40, 1, 0.5)] * 2 + [(40, 0, 0.0)] * 2


def test_an_interrupt_keeps_what_is_trained(few, monkeypatch):
    fit = scene_trainings.fit

    def interrupted(pairs, seed, **settings):
        if len(few) == 1:
            raise KeyboardInterrupt
        return fit(pairs, seed, **settings)

    monkeypatch.setattr(scene_trainings, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scenes_of(SHORT, 0, progress=False)
    monkeypatch.setattr(scene_trainings, "fit", fit)
    scenes_of(SHORT, 0, progress=False)
    assert len(few) == 2


def test_a_row_is_what_the_demo_prints():
    whole = scenes.load_scenes(seed=0)
    sets = {name: pairs.subset(torch.arange(300)) for name, pairs in whole.sets.named().items()}
    shipped = scenes.Scenes(scenes.SceneSets(**sets), whole.target, whole.reference)
    found, expected = scene_directions.row(shipped), scenes.gaps(shipped)
    for place, name in enumerate(scene_directions.GAPS):
        both = expected["training"][place], expected["swapped"][place]
        assert found[name] == pytest.approx(sum(both) / 2)
        assert found[f"null {name}"] == pytest.approx(expected["held-out"][place])
    chance = float(shipped.sets.held_out.objects.float().mean())
    assert 1 > found["linear probe"] > 1.5 * chance


def test_the_command_prints_and_draws(few, monkeypatch, capsys, tmp_path: Path):
    points = [Point(str(p), Setting(epochs=2, caption_masking=p), 2) for p in (0.0, 0.5)]
    monkeypatch.setitem(
        scene_directions.DIRECTIONS,
        "masking",
        scene_trainings.Direction("caption masking", points),
    )
    file = tmp_path / "pictures" / "deja-vu-mitigation.png"
    scene_directions.main(["masking", "--seeds", "0", "1", "--pictures", str(file.parent)])
    told = capsys.readouterr().out
    assert told.startswith("mean of seeds (0, 1)") and "linear probe" in told
    assert file.stat().st_size > 1000
    rows = [line for line in told.splitlines() if line.startswith(("0.0 ", "0.5 "))]
    assert len(rows) == 2 and len(few) == 8
    scene_directions.main(["masking", "--seeds", "0", "1", "2", "--ready"])
    assert capsys.readouterr().out.splitlines()[1:] == told.splitlines()[1:] and len(few) == 8
    with pytest.raises(SystemExit):
        scene_directions.main(["weather"])
    assert "there is no direction 'weather'" in capsys.readouterr().err


def test_the_recipes_tables(few, monkeypatch, capsys, tmp_path: Path):
    short = Setting(epochs=2)
    monkeypatch.setattr(scene_directions, "Setting", lambda: short)
    scene_directions.main(["base", "--pictures", str(tmp_path / "pictures")])
    assert len(list((tmp_path / "pictures").iterdir())) == 2
    told = capsys.readouterr().out
    for words in ("neighbours and labels", "pairs by recall_gap", "null_recall_gap", "null AUCG"):
        assert words in told
