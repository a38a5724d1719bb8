"""The shipped ladder shows what the paper says, and another seed is trained once and kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import memviz as mv
from memviz.demos import demos, language
from memviz.demos.language import _passages as drawn
from memviz.demos.language import _recipe as demo
from memviz.demos.language._training import train_language_model
from memviz.models.gpt import GPT
from memviz.probes.extraction import Extraction, extract, forecasts, teacher_forced


@pytest.fixture(scope="module")
def extractions() -> dict[str, Extraction]:
    tokens = language.passages(0).tokens
    models = language.ladder(checkpoints=True)
    return {name: extract(model, tokens, 16, 32, progress=False) for name, model in models.items()}


def test_what_the_study_holds() -> None:
    study, found = mv.demo("language"), language.passages(0)
    assert "language" in demos()
    assert list(study.groups) == ["recited", "seen", "held out"]
    assert sum(int(mask.sum()) for mask in study.groups.values()) == len(study) == len(found.tokens)
    assert torch.equal(study.groups["held out"], found.copies == 0)
    assert torch.equal(study.labels, found.tokens[:, 16:])
    words = study.task.label_words(study.labels[:1], study.class_name)
    assert words == [language.tokenizer().decode(found.tokens[0, 16:].tolist())]
    with torch.no_grad():
        outputs = study.task.outputs(study.model(**study.inputs))
    right = study.task.margin(outputs, study.labels) > 0
    assert torch.equal(right & ~study.groups["held out"], study.groups["recited"])
    again = eval(study.origin, {"mv": mv})
    assert again.name == study.name
    small = language.load(0, "small")
    assert eval(small.origin, {"memviz": mv}).name == small.name == "language (small)"
    models = language.ladder(checkpoints=True)
    assert (
        list(eval(models.origin, {"mv": mv}))
        == list(models)
        == ["small", "medium", *(["large, epoch 6", "large"])]
    )
    assert small.groups.keys() == study.groups.keys()
    assert all(torch.equal(small.groups[name], mask) for name, mask in study.groups.items())


def test_recitation_rises_with_copies_and_with_size(extractions: dict[str, Extraction]) -> None:
    copies = language.passages(0).copies.numpy()
    shares = {
        name: [extraction.memorized[copies == level].mean() for level in language.COPIES]
        for name, extraction in extractions.items()
    }
    for name, by_level in shares.items():
        assert (np.diff(by_level) >= -0.07).all(), name  # one passage of 16
        assert extractions[name].memorized[copies == 0].mean() <= 0.02
    small, medium, large = (np.mean(shares[size]) for size in language.SIZES)
    assert small < medium < large and shares["large"][-1] == 1 and shares["large"][0] < 0.3


def test_every_predictor_is_precise_and_recall_rises(extractions: dict[str, Extraction]) -> None:
    seen = (language.passages(0).copies > 0).numpy()
    memorized = {name: extraction.memorized[seen] for name, extraction in extractions.items()}
    table = forecasts(memorized, "large").set_index("predictor")
    assert table["precision"]["small"] >= 0.9
    assert table["recall"]["small"] < table["recall"]["medium"]


def test_one_pass_decides_as_decoding_does(extractions: dict[str, Extraction]) -> None:
    tokens = language.passages(0).tokens
    for name, model in language.ladder(checkpoints=True).items():
        forced = teacher_forced(model, tokens, 16, 32, progress=False)
        assert (forced.memorized == extractions[name].memorized).all()


def test_shipped_files_stay_under_two_megabytes() -> None:
    files = list((Path(demo.__file__).parents[1] / "weights").glob("language-*"))
    assert sum(file.stat().st_size for file in files) <= 2_000_000 and len(files) >= 5


def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "EPOCHS", 2)
    monkeypatch.setattr(demo, "CHECKPOINT_EPOCHS", (1, 2))
    monkeypatch.setattr(
        demo, "SIZES", {"small": demo.Size(4, 1, 1e-2), "large": demo.Size(8, 1, 1e-2)}
    )
    monkeypatch.setattr(drawn, "PER_LEVEL", 2)
    language.passages.cache_clear()


def test_another_seed_is_trained_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path))
    tiny(monkeypatch)
    first = demo.load(7)
    assert "Training the large language model of seed 7" in capsys.readouterr().out
    second = demo.load(7)
    assert capsys.readouterr().out == ""
    assert list(second.checkpoints) == [1, 2] and "recited" not in second.groups
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])
        assert torch.equal(value, second.checkpoints[2][name])
    with pytest.raises(KeyError):
        second.checkpoints[3]
    language.passages.cache_clear()


def test_what_prepare_writes_is_what_load_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny(monkeypatch)
    monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path))
    before = torch.get_rng_state()
    demo.prepare([7], tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(list(tmp_path.glob("language-seed7-*.safetensors"))) == 4
    ladder = demo.ladder(7, checkpoints=True)
    assert list(ladder) == ["small", "large, epoch 1", "large"]
    language.passages.cache_clear()


def test_sizes_see_the_same_batches_in_the_same_order() -> None:
    class Watched(GPT):
        def forward(self, input_ids, *rest):  # type: ignore[no-untyped-def]
            seen.append(input_ids.clone())
            return super().forward(input_ids, *rest)

    sequences = torch.arange(200)[:, None].expand(-1, 4) % 7
    orders = []
    for width in (4, 8):
        seen: list[torch.Tensor] = []
        model = Watched(7, width, 1, 1, context=4, seed=0)
        train_language_model(model, sequences, epochs=2, learning_rate=1e-3, seed=3, progress=False)
        orders.append(torch.cat(seen))
    assert torch.equal(*orders) and not torch.equal(orders[0][:200], orders[0][200:])


def test_bad_input_gets_one_sentence() -> None:
    for seed in (-1, True, 2**32, "0"):
        with pytest.raises(ValueError, match="seed must be a whole number from 0 to"):
            demo.load(seed)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no size 'huge'; choose from 'small', 'medium', 'large'"):
        demo.load(0, "huge")
    with pytest.raises(ValueError, match="no checkpoint of epoch 4; choose from 3, 6, 9, 12"):
        demo.model_of(0, "large", 4)
