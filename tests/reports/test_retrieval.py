"""The report of a déjà vu study: pairs, gaps, units of both towers."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import memviz as mv
from memviz.data.caption_pairs import CaptionPairs
from memviz.data.scenes import caption, draw_scenes
from memviz.models.clip import Clip, create_clip
from memviz.probes.deja_vu import unit_effects, unit_layers
from memviz.probes.deja_vu.ablation import Retrieval
from tests.support.widgets import EVIL

VISION = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
CONFIG = {"embed_dim": 8, "vision_cfg": VISION, "text_cfg": TEXT}
PREPROCESS = {"mean": [0.25] * 3, "std": [0.25] * 3, "size": 32}
SETS = draw_scenes(3, target=8, reference=8, public=20, held_out=10)


def untrained(seed: int) -> Clip:
    """A model whose captions are not all alike."""
    clip = create_clip(CONFIG, PREPROCESS, seed=seed)
    with torch.no_grad():
        for name, weight in clip.model.named_parameters():
            if weight.ndim > 1:
                weight.mul_(20 if "embedding" in name else 3)
    return clip


def hostile(pairs: CaptionPairs) -> CaptionPairs:
    """The same pairs, whose captions and class names try to run something."""
    captions = [f"{EVIL} {text}" for text in pairs.captions]
    names = [f"{EVIL}{name}" for name in pairs.class_names]
    return CaptionPairs(pairs.images, captions, pairs.objects, names)


@pytest.fixture(scope="module")
def retrieval() -> Retrieval:
    sets = [hostile(pairs) for pairs in (SETS.target, SETS.public, SETS.held_out)]
    return Retrieval(
        untrained(1), untrained(2), *sets, query=lambda name: caption([name], []), k=4, top=3,
        name=EVIL, summary=EVIL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(retrieval: Retrieval, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "a.html"
    return mv.report(retrieval, path, units=8, random_draws=2, progress=False)


def table(path: Path, name: str) -> pd.DataFrame:
    link = re.search(f'download="{name}.csv" href="[^"]*base64,([^"]*)"', path.read_text())
    assert link is not None
    return pd.read_csv(io.BytesIO(base64.b64decode(link[1])))


def test_it_tells_of_pairs_gaps_and_units(retrieval: Retrieval, written: Path) -> None:
    text, found = written.read_text(), retrieval.clean.found
    for words in ("Which pairs are memorized", "8 for training, 10 held out", "arXiv:2402.02103"):
        assert words in text
    gaps = table(written, "gaps").set_index("gap")["value"]
    assert gaps.to_dict() == pytest.approx({"PPG": found.ppg, "PRG": found.prg, "AUCG": found.aucg})
    pairs = table(written, "pairs")
    assert pairs["id"].tolist() == [int(found.ids[row]) for row in found.order("recall_gap")]
    recall = found.target.recall.numpy()[found.order("recall_gap")]
    np.testing.assert_allclose(pairs["target_recall"], recall)


def test_units_are_ranked_by_their_exact_effect_and_heads_are_not(
    retrieval: Retrieval, written: Path
) -> None:
    assert retrieval.effects is None  # what was found for the page is not left behind
    effects = unit_effects(retrieval, progress=False)
    assert effects.null is not None and effects.units is not None
    units = table(written, "units")
    heads = {layer.name for layer in unit_layers(retrieval) if layer.kind == "heads"}
    is_head = units["layer"].isin(heads)
    assert heads and units["value"].isna().tolist() == is_head.tolist()
    expected = (effects.values - effects.null.mean)[~is_head]
    np.testing.assert_allclose(units["value"][~is_head], expected, atol=1e-9)
    last = table(written, "curve").query("units == 8").set_index("measure")["value"]
    told = re.search(r"The 8 units: ([^<]*)<", written.read_text())
    assert told is not None
    chosen = mv.UnitSet.parse(html.unescape(told[1]))
    values = dict(zip(effects.units, effects.values - effects.null.mean, strict=True))
    least = min(values[unit] for unit in chosen)
    ranked = [values[unit] for unit in effects.units if unit.layer not in heads]
    assert len(chosen) == 8 and sum(value > least for value in ranked) <= 8
    after = retrieval.retrieve(chosen)
    assert last["AUCG"] == pytest.approx(after.found.aucg)
    assert last["utility"] == pytest.approx(after.utility)


def test_the_same_bytes_but_for_the_date_and_names_are_text(
    retrieval: Retrieval, written: Path, tmp_path: Path
) -> None:
    again = mv.report(retrieval, tmp_path / "b.html", units=8, random_draws=2, progress=False)
    one, other = (path.read_text().split("\n") for path in (written, again))
    assert [line for line, same in zip(one, other, strict=True) if line != same and
            'id="written"' not in line] == []  # fmt: skip
    page = written.read_text()
    assert "<img" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert len(re.findall(r"<script[\s>]", page)) == 2  # the view's, and what it shows


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"units": 10_000}, "units of these models can be ranked, so choose from 1 to"),
        ({"scores": []}, "scores are over the examples of a study; leave them out"),
    ],
)
def test_a_wrong_argument_gets_a_sentence(
    retrieval: Retrieval, tmp_path: Path, options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        mv.report(retrieval, tmp_path / "a.html", progress=False, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
