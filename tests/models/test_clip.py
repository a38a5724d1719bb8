"""open_clip models: made, kept, loaded, and refused when weights and model disagree."""

import copy
import json
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image

from memviz import tensor_files
from memviz.models.clip import CONFIG, WEIGHTS, create_clip, load_clip, save_clip

CFG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


@pytest.fixture(scope="module")
def clip():
    return create_clip(CFG, PREPROCESS, seed=1)


@pytest.fixture
def folder(clip, tmp_path):
    return save_clip(tmp_path / "tiny", clip)


def test_made_by_seed_without_global_randomness(clip):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    again, other = create_clip(CFG, seed=1), create_clip(CFG, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    first, second, third = (c.model.state_dict() for c in (clip, again, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["text_projection"], third["text_projection"])
    assert not clip.model.training


def test_saved_and_loaded_is_the_same(clip, folder):
    import open_clip

    ours = load_clip(folder)
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    expected = clip.model.state_dict()
    for model in (ours.model, theirs):
        found = model.state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not ours.model.training
    # The folder's own preprocessing: (0.25 - 0.5) / 0.25.
    picture = Image.new("RGB", (16, 16), (64, 64, 64))
    assert ours.preprocess(picture).shape == (3, 16, 16)
    assert torch.allclose(ours.preprocess(picture), torch.tensor((64 / 255 - 0.5) / 0.25))
    assert torch.equal(preprocess(picture), ours.preprocess(picture))
    assert ours.tokenizer(["a seven"]).shape == (1, 8)
    assert sorted(p.name for p in folder.iterdir()) == [CONFIG, WEIGHTS]


def changed(folder, tower, **settings):
    config = copy.deepcopy(CFG)
    config[tower].update(settings)
    (folder / CONFIG).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))


@pytest.mark.parametrize(
    ("tower", "settings", "words"),
    [
        (
            "vision_cfg",
            {"image_size": 32},
            "image size of 16 pixels, and .* image size of 32 pixels",
        ),
        ("text_cfg", {"context_length": 12}, "context length of 8, and .* context length of 12"),
    ],
)
def test_other_size_is_refused_where_open_clip_is_silent(folder, tower, settings, words):
    import open_clip

    changed(folder, tower, **settings)
    open_clip.create_model(f"local-dir:{folder}")  # loads, with position embeddings resized
    with pytest.raises(ValueError, match=words):
        load_clip(folder)


def test_other_width_is_refused(folder):
    changed(folder, "text_cfg", width=32)
    with pytest.raises(ValueError, match="of shape"):
        load_clip(folder)


def test_the_repr_is_one_line(clip):
    number = sum(p.numel() for p in clip.model.parameters())
    wanted = f"images of 16 × 16, captions of 8 tokens, {number:,} parameters"
    assert repr(clip) == f"Clip(CLIP, {wanted})"
    plain = replace(clip, model=torch.nn.Linear(2, 3))  # neither size is known
    assert repr(plain) == "Clip(Linear, 9 parameters)"


def test_what_is_no_model_with_its_functions_is_refused(clip):
    for change, words in (
        ({"model": "ViT-B-32"}, "model is of type str; give an open_clip model"),
        ({"preprocess": None}, "preprocess is of type NoneType; give the function"),
        ({"tokenizer": "text"}, "tokenizer is of type str; give the function"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(clip, **change)


@pytest.mark.parametrize(("config", "stored"), [(2, 1), (1, 2), (3, 12)])
@pytest.mark.parametrize(
    ("tower", "stack"),
    [("vision_cfg", "visual.transformer.resblocks"), ("text_cfg", "transformer.resblocks")],
)
def test_another_number_of_layers_is_refused(folder, tower, stack, config, stored):
    other = copy.deepcopy(CFG)
    other[tower]["layers"] = stored
    save_clip(folder, create_clip(other, PREPROCESS))
    changed(folder, tower, layers=config)
    words = f"{WEIGHTS} holds {stored} layers of {stack}, and this model has {config}; give the"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}") as told:
        load_clip(folder)
    assert "\n" not in str(told.value) and told.value.__suppress_context__


def test_a_tensor_too_few_or_too_many_is_named(folder, clip):
    state = clip.model.state_dict()
    for kept, words in (
        (
            {k: v for k, v in state.items() if k != "ln_final.bias"},
            "holds no 'ln_final.bias', which",
        ),
        ({**state, "extra": torch.ones(1)}, "holds 'extra', which this model does not have"),
    ):
        tensor_files.write(folder / WEIGHTS, kept, {})
        with pytest.raises(ValueError, match=words):
            load_clip(folder)


def test_weights_of_a_training_checkpoint_are_checked_too(folder, clip, tmp_path):
    import open_clip

    (tmp_path / "memviz-test-tiny.json").write_text(json.dumps(CFG))
    open_clip.add_model_config(tmp_path / "memviz-test-tiny.json")
    other = copy.deepcopy(CFG)
    other["text_cfg"]["context_length"] = 10
    for name, config in (("right.pt", CFG), ("wrong.pt", other)):
        state = create_clip(config, seed=1).model.state_dict()
        state = {f"module.{key}": value for key, value in state.items()}
        torch.save({"state_dict": state, "epoch": 3}, tmp_path / name)
    model = load_clip("memviz-test-tiny", tmp_path / "right.pt").model
    assert torch.equal(model.text_projection, clip.model.text_projection)
    with pytest.raises(ValueError, match="context length of 10"):
        load_clip("memviz-test-tiny", tmp_path / "wrong.pt")
    with pytest.raises(ValueError, match="needs weights"):
        load_clip("memviz-test-tiny")


def test_faults(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a folder"):
        load_clip(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no file and no tag"):
        load_clip("ViT-B-32", "no-such-tag")
    with pytest.raises(ValueError, match="would be downloaded"):
        load_clip("ViT-B-32", "openai")
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:500])
    with pytest.raises(ValueError, match="can't be read"):
        load_clip(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match="holds no open_clip_model"):
        load_clip(folder)
    (folder / CONFIG).write_text("{}")
    with pytest.raises(ValueError, match="not an open_clip configuration"):
        load_clip(folder)
    (folder / CONFIG).unlink()
    with pytest.raises(FileNotFoundError, match="holds no open_clip_config"):
        load_clip(folder)
