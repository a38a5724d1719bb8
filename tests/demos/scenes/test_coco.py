"""The COCO demo on drawn pictures: its sets, its duplicates, and that it goes on when stopped."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from memviz.demos.scenes import coco
from memviz.demos.scenes.coco import queries, read, shared, split, train
from memviz.models.clip import CONFIG, load_clip

KINDS = ("apple", "dog", "oven")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Forty pictures; number 7 is cut, number 9 is a copy of number 8, number 5 shows nothing."""
    for name, value in {"WIDTH": 32, "LAYERS": 1, "SIZE": 16, "LEAST": 1, "BATCH_SIZE": 6}.items():
        monkeypatch.setattr(coco, name, value)
    monkeypatch.setattr(coco, "PREPROCESS", {**coco.PREPROCESS, "size": 16})
    place = tmp_path / "photos"
    (place / "images").mkdir(parents=True)
    draw = np.random.RandomState(0)
    images, captions, boxes = [], [], []
    for number in range(40):
        name = f"{number}.png"
        Image.fromarray(draw.randint(0, 256, (20, 30, 3), np.uint8)).save(place / "images" / name)
        images.append({"id": number, "file_name": name})
        captions.append({"image_id": number, "caption": f"picture {number} with an apple"})
        shown = [] if number == 5 else draw.permutation(3)[: 1 + number % 2]
        boxes += [{"image_id": number, "category_id": int(kind)} for kind in shown]
    data = (place / "images" / "8.png").read_bytes()
    (place / "images" / "9.png").write_bytes(data)
    (place / "images" / "7.png").write_bytes(data[:200])
    kinds = [{"id": i, "name": name} for i, name in enumerate(KINDS)]
    told = {"images": images, "annotations": captions}
    (place / "captions.json").write_text(json.dumps(told))
    (place / "instances.json").write_text(json.dumps({"annotations": boxes, "categories": kinds}))
    return place


def test_sets_are_disjoint_and_duplicates_told(folder, capsys):
    pairs = read(folder)
    assert "1 photos can't be read and are left out" in capsys.readouterr().out
    assert len(pairs) == 39 and "7" not in pairs.ids
    for seed in (0, 1):
        sets = split(pairs, 8, seed).named()
        ids = [name for one in sets.values() for name in one.ids]
        assert sorted(ids) == sorted(pairs.ids) and len(set(ids)) == 39
        assert [len(one) for one in sets.values()] == [8, 8, 17, 6]
        equal, captions, alike = shared(split(pairs, 8, seed)).values()
        found = {sets[row[0]].id(row[1]) for row in equal.rows}
        found |= {sets[row[2]].id(row[3]) for row in equal.rows}
        assert len(equal) == 1 and found == {"8", "9"}
        assert not captions.rows
        places = {name: set(one.ids) & {"8", "9"} for name, one in sets.items()}
        # Thumbnails are compared between sets only, and a copy is as alike as can be.
        assert len(alike) == (max(map(len, places.values())) == 1)
    assert split(pairs, 8, 0).target.ids != split(pairs, 8, 1).target.ids


@pytest.mark.parametrize("size", [1, 18, 30])
def test_too_few_photos_get_a_sentence(folder, size):
    with pytest.raises(ValueError, match="there are 39 photos, too few .* use 2 to 17"):
        split(read(folder), size)


def test_stopped_it_goes_on_to_the_same_model(folder, monkeypatch, tmp_path):
    pairs = read(folder)
    sets, texts = split(pairs, 8), [*pairs.captions, *queries(KINDS)]
    told = {"vocabulary": texts, "epochs": 4, "seed": 3, "progress": False}
    expected = train(sets, "target", **told).model.state_dict()
    plain, seen = coco.train_contrastive, []

    def interrupted(*given, **settings):
        def stop(epoch, model):
            seen.append(epoch)
            if seen == [1, 2, 3]:
                raise KeyboardInterrupt

        return plain(*given, **settings, on_epoch=stop)

    monkeypatch.setattr(coco, "train_contrastive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(sets, "target", **told, folder=tmp_path / "kept")
    found = train(sets, "target", **told, folder=tmp_path / "kept").model.state_dict()
    assert seen == [1, 2, 3, 3, 4]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(
        found["text_projection"], train(sets, "reference", **told).model.text_projection
    )


def test_the_command_and_what_it_keeps(folder, capsys, tmp_path):
    arguments = [str(folder), "--pairs", "8", "--epochs", "2", "--keep", str(tmp_path / "kept")]
    coco.main(arguments)
    told = capsys.readouterr().out
    assert "seed 0: photos target 8, reference 8, public 17, held_out 6" in told
    assert "pixels: 1 duplicates (equal)" in told
    for words in (
        "training pairs  PPG",
        "held-out pairs  PPG",
        "zero-shot",
        "linear probe by chance",
    ):
        assert words in told
    # A second call trains nothing and says the same.
    coco.main(arguments)
    assert capsys.readouterr().out == told
    target = tmp_path / "kept" / "coco-8-epochs2-seed0" / "target"
    assert load_clip(target).tokenizer(["a dog"]).shape == (1, coco.CONTEXT)
    for tower, setting, words in (
        ("vision_cfg", {"image_size": 32}, "image size of 16 pixels"),
        ("text_cfg", {"context_length": 77}, "context length of 32"),
    ):
        before = (target / CONFIG).read_text()
        config = json.loads(before)
        config["model_cfg"][tower].update(setting)
        (target / CONFIG).write_text(json.dumps(config))
        with pytest.raises(ValueError, match=f"was trained with an? {words}"):
            load_clip(target)
        (target / CONFIG).write_text(before)
