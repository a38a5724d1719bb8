"""The report of a déjà vu study: pairs, gaps, units of both towers."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import memviz as mv
from memviz.data.caption_pairs import CaptionPairs
from memviz.data.scenes import caption, draw_scenes
from memviz.probes.deja_vu import pair_halves, unit_effects, unit_layers
from memviz.probes.deja_vu.ablation import Retrieval, measured
from memviz.scores import Scores
from tests.support.retrievals import untrained_clip, untrained_retrieval
from tests.support.widgets import EVIL

SETS = draw_scenes(3, target=8, reference=8, public=20, held_out=10)


def hostile(pairs: CaptionPairs) -> CaptionPairs:
    """The same pairs, whose captions and class names try to run something."""
    captions = [f"{EVIL} {text}" for text in pairs.captions]
    names = [f"{EVIL}{name}" for name in pairs.class_names]
    return CaptionPairs(pairs.images, captions, pairs.objects, names)


@pytest.fixture(scope="module")
def retrieval() -> Retrieval:
    sets = [hostile(pairs) for pairs in (SETS.target, SETS.public, SETS.held_out)]
    return Retrieval(
        untrained_clip(1), untrained_clip(2), *sets, query=lambda name: caption([name], []),
        k=4, top=3, name=EVIL, summary=EVIL,
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


def chosen_units(path: Path) -> mv.UnitSet:
    told = re.search(r"The \d+ units?: ([^<]*)<", path.read_text())
    assert told is not None
    return mv.UnitSet.parse(html.unescape(told[1]))


def test_units_are_chosen_on_one_half_and_judged_on_the_other(
    retrieval: Retrieval, written: Path
) -> None:
    half = unit_effects(retrieval, progress=False).half
    assert half is not None and half.null is not None and half.units is not None
    heads = {layer.name for layer in unit_layers(retrieval) if layer.kind == "heads"}
    values = dict(zip(half.units, half.values - half.null.mean, strict=True))
    chosen = chosen_units(written)
    ranked = sorted((values[u] for u in half.units if u.layer not in heads), reverse=True)
    assert sorted((values[unit] for unit in chosen), reverse=True) == ranked[:8]
    _, other = pair_halves(retrieval)
    last = table(written, "curve").query("units == 8").set_index("measure")["value"]
    after = retrieval.retrieve(chosen)
    assert last.tolist() == pytest.approx(measured(after, other))
    assert last["utility"] == pytest.approx(after.utility)
    assert last["AUCG"] != pytest.approx(after.found.aucg)
    text = written.read_text()
    assert "which had no part in the choice" in text and "no half was held out" not in text
    assert f"({int(other.training.sum())} and {int(other.held_out.sum())})" in text


def test_a_planted_unit_of_one_half_is_chosen_though_all_pairs_rank_another(tmp_path: Path) -> None:
    planted = untrained_retrieval()
    effects = unit_effects(planted, progress=False)
    assert effects.half is not None and effects.units is not None
    single = [row for row, unit in enumerate(effects.units) if "attn" not in unit.layer]
    values = np.zeros(len(effects))
    values[single[3]] = 1.0  # all pairs together would choose another one
    whole = np.zeros(len(effects))
    whole[single[5]] = 9.0
    planted.effects = replace(
        effects, values=whole, half=replace(effects.half, values=values, null=None), null=None
    )
    path = mv.report(planted, tmp_path / "a.html", units=1, random_draws=1, progress=False)
    assert list(chosen_units(path)) == [effects.units[single[3]]]
    assert table(path, "units")["value"].idxmax() == single[5]


def test_effects_of_all_pairs_alone_hold_no_half_out_and_say_so(tmp_path: Path) -> None:
    known = untrained_retrieval()
    effects = unit_effects(known, progress=False)
    known.effects = Scores("mine", "AUCG", effects.values, units=effects.units)
    path = mv.report(known, tmp_path / "a.html", units=2, random_draws=1, progress=False)
    assert "no half was held out" in path.read_text()
    last = table(path, "curve").query("units == 2").set_index("measure")["value"]
    assert last.tolist() == pytest.approx(measured(known.retrieve(chosen_units(path))))


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
