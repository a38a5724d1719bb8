"""The shipped encoders show what the paper says, and another seed is trained once and kept."""

from pathlib import Path

import numpy as np
import pytest
import torch

from memviz.data.subsets import Subsets
from memviz.demos.encoders import _measures as figures
from memviz.demos.encoders import _recipe as demo
from memviz.demos.encoders.__main__ import main
from memviz.demos.encoders.cifar10 import drawn, network
from memviz.probes.encoders.layers import layer_mem


def small(encoders: demo.Encoders, *, unit_norm: bool = True) -> np.ndarray:
    """S_C less S_I in each layer, and its standard error."""
    sets = encoders.subsets
    chosen = Subsets(sets.shared[:2], sets.candidate, sets.independent, sets.external[:2])
    found = layer_mem(encoders.target, encoders.reference, encoders.images, encoders.augment,
                      chosen, unit_norm=unit_norm, progress=False)  # fmt: skip
    return np.array([found.gap("S_I")[0], np.hypot(found.errors["S_C"], found.errors["S_I"])[0]])


def test_candidates_are_memorized_in_the_last_layer_and_raw_features_say_otherwise() -> None:
    encoders = demo.load(0)
    gap, error = small(encoders)
    assert gap[3] > 3 * error[3] and abs(gap[0]) < 3 * error[0]
    assert gap[3] > 4 * abs(gap[:3]).max()
    raw, _ = small(encoders, unit_norm=False)
    assert raw[3] < 0


def test_units_of_images_without_labels_and_of_classes_with_them() -> None:
    simclr, labels = (figures.units(demo.load(0, how)) for how in ("simclr", "supervised"))
    for table in (simclr, labels):
        assert np.all(np.diff(table["UnitMem"]) > 0)  # it grows with depth
        assert table["UnitMem"][3] > 2 * table["UnitMem random weights"][3]
        assert np.all(np.array(table["ClassMem"]) > table["ClassMem shuffled labels"])
    assert np.all(np.array(simclr["UnitMem"]) > simclr["ClassMem"])
    assert labels["UnitMem"][3] < labels["ClassMem"][3]


def test_what_the_studies_hold() -> None:
    encoders = demo.load(0)
    for side, own in (("target", "candidate"), ("reference", "independent")):
        study = encoders.study(side)
        assert {k: int(v.sum()) for k, v in study.groups.items()} == {
            "shared": 100, "own": 50, "test": 1597,
        }  # fmt: skip
        images = encoders.images[getattr(encoders.subsets, own)]
        assert torch.equal(study.inputs[study.group("own")], images)
    again = demo.load(0).study()
    assert eval(again.origin, {"memviz": __import__("memviz")}).name == again.name
    with pytest.raises(ValueError, match="no reference of the supervised network"):
        demo.load(0, "supervised").study("reference")
    with pytest.raises(ValueError, match="no reference"):
        figures.layers(demo.load(0, "supervised"))


@pytest.mark.parametrize("how", ["simclr", "masked", "supervised"])
def test_another_seed_is_trained_once_and_kept(
    how: demo.How,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path))
    monkeypatch.setattr(demo, "EPOCHS", 10)
    first = demo.load(7, how)
    assert f"Training the {how} target of seed 7" in capsys.readouterr().out
    second = demo.load(7, how)
    assert capsys.readouterr().out == ""
    assert (first.reference is None) == (how == "supervised")
    for name, value in first.target.state_dict().items():
        assert torch.equal(value, second.target.state_dict()[name])


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="seed must be a whole number"):
        demo.load(-1)
    with pytest.raises(
        ValueError, match="how is 'simclr', 'masked' or 'supervised', but got 'dino'"
    ):
        demo.load(0, "dino")  # type: ignore[arg-type]
    with pytest.raises(SystemExit, match="cifar10 FOLDER"):
        main(["cifar"])
    with pytest.raises(FileNotFoundError, match="there is no CIFAR-10"):
        main(["cifar10", "nowhere"])


def test_the_subsets_of_cifar10_keep_apart() -> None:
    from memviz.data.loaders import Cifar10

    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (1500, 32, 32, 3), generator=generator, dtype=torch.uint8)
    data = Cifar10(pixels[:1000], torch.zeros(1000), pixels[1000:], torch.zeros(500))
    images, sets, free = drawn(data, seed=0)
    assert images.shape == (1500, 3, 32, 32) and len(free) == 200
    assert int(sets.external.min()) >= 1000 > int(sets.target.max())
    assert not set(free.tolist()) & set(torch.cat(list(sets.named().values())).tolist())
    assert network(0).eval()(images[:2]).shape == (2, 128)


def test_order_and_figures_are_read_off_the_last_layer(capsys: pytest.CaptureFixture[str]) -> None:
    from memviz.probes.encoders.layers import LayerMem, Point

    path = (Point("one", "conv", 0), Point("two", "conv", 1, "one"))
    last = {"S_C": [3.0, 1.0], "S_S": [2.0, 2.0], "S_E": [1.0, 0.0], "S_I": [0.0, -1.0]}
    values = {name: np.array([[0.0, a], [0.0, b]]) for name, (a, b) in last.items()}
    found = LayerMem(path, values, values)
    assert figures.ordered(found) == [True, False]
    figures.print_layers("made", found)
    said = capsys.readouterr().out
    assert "at the last layer: 1 of 2 seeds" in said and "+2.0000 (+1.0000 to +3.0000)" in said
