"""The scenes demo: what is shipped, that it has memorized, and how it is trained and kept."""

import pytest
import torch

from memviz.data.scenes import OBJECTS, draw_scenes
from memviz.demos import _kept as kept
from memviz.demos.scenes import _recipe as scenes
from memviz.models.clip import load_clip, save_clip


@pytest.fixture(scope="module")
def shipped():
    return scenes.load_scenes(seed=0)


@pytest.fixture(scope="module")
def figures(shipped):
    return scenes.gaps(shipped)


def test_training_pairs_are_memorized(figures):
    # The bounds that this demo was asked to pass, not ones read off the shipped weights.
    for words in ("training", "swapped"):
        ppg, prg, aucg = figures[words]
        assert ppg > 0.3 and prg > 0.3 and aucg > 0.1


def test_held_out_pairs_are_not(figures):
    # PPG and PRG are means of signs: their standard error is at most 1 / sqrt(pairs); between two
    # trainings they scatter by .05 besides (the method's own small case).
    ppg, prg, aucg = figures["held-out"]
    assert abs(ppg) < 0.15 and abs(prg) < 0.15 and abs(aucg) < 0.05


def test_gaps_by_another_way(shipped, figures):
    """One pair at a time, labels counted in plain Python."""
    public = shipped.sets.public.objects.tolist()
    embedded = {}
    with torch.no_grad():
        for side in scenes.SIDES:
            model = getattr(shipped, side).model
            texts = model.encode_text(shipped.tokens("held_out")[:200], normalize=True)
            pictures = model.encode_image(shipped.images("public"), normalize=True)
            embedded[side] = texts @ pictures.T
    hits = {side: [] for side in scenes.SIDES}
    for side, products in embedded.items():
        for pair, row in enumerate(products):
            seen: dict[int, list[int]] = {}  # object to the places of the neighbours showing it
            for place, neighbour in enumerate(row.argsort(descending=True)[:10].tolist()):
                for thing in range(len(OBJECTS)):
                    if public[neighbour][thing]:
                        seen.setdefault(thing, []).append(place)
            # Of equally frequent ones the one that a nearer neighbour shows comes first; those that
            # tie for the last places are right by chance.
            order = {c: (-len(places), places[0]) for c, places in seen.items()}
            last = sorted(order.values())[:5][-1]
            sure = [c for c in order if order[c] < last]
            tied = [c for c in order if order[c] == last]
            own = shipped.sets.held_out.objects[pair]
            by_chance = min(5 - len(sure), len(tied)) * float(own[tied].double().mean())
            hits[side].append((sum(bool(own[c]) for c in sure) + by_chance) / int(own.sum()))
    small = scenes.Scenes(
        scenes.SceneSets(
            **{
                **shipped.sets.named(),
                "held_out": shipped.sets.held_out.subset(torch.arange(200)),
            }
        ),
        shipped.target,
        shipped.reference,
    )
    expected = sum(a - b for a, b in zip(*hits.values(), strict=True)) / 200
    assert scenes.gaps(small)["held-out"][2] == pytest.approx(expected, abs=1e-6)


def test_models_are_of_use(shipped):
    chance = float(shipped.sets.held_out.objects.float().mean())
    for side in scenes.SIDES:
        assert scenes.utility(shipped, side) > 1.5 * chance


def test_is_an_open_clip_folder(shipped, tmp_path):
    folder = save_clip(tmp_path / "target", shipped.target)
    again = load_clip(folder)
    words = ["Ada and Leo with a seven in Oslo", "a seven", "words that no scene has"]
    with torch.no_grad():
        found = again.model.encode_text(again.tokenizer(words))
        expected = shipped.target.model.encode_text(shipped.target.tokenizer(words))
    assert torch.equal(found, expected)
    picture = shipped.sets.public.image(0)
    assert torch.equal(again.preprocess(picture), shipped.target.preprocess(picture))


def test_inputs_have_no_resizing(shipped):
    pixels = torch.from_numpy(shipped.sets.target.images[0]).permute(2, 0, 1) / 255
    ours = shipped.target.preprocess(shipped.sets.target.image(0))
    assert torch.allclose(ours, (pixels - 0.25) / 0.25, atol=1e-6)


def test_fit_repeats_itself_and_unknown_words_are_average():
    pairs = draw_scenes(0, target=40, reference=1, public=1, held_out=1).target
    runs = [scenes.fit(pairs, seed=5, epochs=2, batch_size=20, progress=False) for _ in range(2)]
    (one, run), (other, again) = runs
    assert run.loss == again.loss
    rows, others = (clip.model.token_embedding.weight.detach() for clip in (one, other))
    assert torch.equal(rows, others)
    used = one.tokenizer(list(pairs.captions)).unique()
    unused = one.tokenizer(["zebra"])[0, 1]
    start = scenes.fit(pairs, seed=5, epochs=1, batch_size=20, learning_rate=1e-9, progress=False)
    assert (rows[used] != start[0].model.token_embedding.weight[used]).any(1).all()
    trained = torch.unique(rows, dim=0)
    mean = rows[unused]
    kept_rows = trained[(trained - mean).abs().sum(1) > 0]
    assert torch.allclose(mean, kept_rows.mean(0), atol=1e-6)


def test_other_seeds_are_trained_once_and_kept(monkeypatch, tmp_path, capsys):
    trained = []

    def small(pairs, seed=0, **settings):
        trained.append(seed)
        return fit(pairs, seed, epochs=1, progress=False)

    fit = scenes.fit
    few = draw_scenes(7, target=30, reference=30, public=5, held_out=5)
    monkeypatch.setattr(scenes, "fit", small)
    monkeypatch.setattr(scenes, "draw_scenes", lambda seed: few)
    monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path))
    first, second = scenes.load_scenes(seed=7), scenes.load_scenes(seed=7)
    assert trained == [7, 7]  # target and reference, in the first call only
    assert "Training the scenes' two models for seed 7" in capsys.readouterr().out
    for side in scenes.SIDES:
        one, other = (getattr(s, side).model.state_dict() for s in (first, second))
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(
        first.target.model.text_projection, first.reference.model.text_projection
    )
    # A damaged file is not used.
    path = next(tmp_path.glob("*target*"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="not used"):
        scenes.load_scenes(seed=7)
    assert trained == [7] * 4


def test_weights_that_cannot_be_kept_are_used_all_the_same(monkeypatch, tmp_path, capsys):
    few, fit = draw_scenes(8, target=30, reference=30, public=5, held_out=5), scenes.fit
    monkeypatch.setattr(
        scenes, "fit", lambda pairs, seed: fit(pairs, seed, epochs=1, progress=False)
    )
    monkeypatch.setattr(scenes, "draw_scenes", lambda seed: few)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="could not be kept"):
        found = scenes.load_scenes(seed=8)
    assert len(found.sets.target) == 30


def test_damaged_shipped_weights_get_a_sentence(monkeypatch, tmp_path):
    for path in kept.SHIPPED.glob("scenes-*"):
        (tmp_path / path.name).write_bytes(path.read_bytes()[:-3])
    few = draw_scenes(0, target=2, reference=2, public=2, held_out=2)
    monkeypatch.setattr(kept, "SHIPPED", tmp_path)
    monkeypatch.setattr(scenes, "draw_scenes", lambda seed: few)
    with pytest.raises(ValueError, match="come with memviz can't be used"):
        scenes.load_scenes(seed=0)


def test_an_unknown_set_gets_the_names(shipped):
    with pytest.raises(ValueError, match="target, reference, public, held_out"):
        shipped.images("test")


@pytest.mark.parametrize("seed", [-1, 0.5])
def test_a_wrong_seed_gets_a_sentence(seed):
    with pytest.raises(ValueError, match="whole number"):
        scenes.load_scenes(seed=seed)


def test_shipped_weights_are_small():
    sizes = [path.stat().st_size for path in kept.SHIPPED.glob("scenes-*")]
    # Of each seed both models, and the sweep of the target's units.
    assert len(sizes) == 3 * len(scenes.SHIPPED_SEEDS) and sum(sizes) < 1_500_000
