"""The contrastive loop: its loss by hand, its randomness, its stops."""

import math

import pytest
import torch
from torch import nn

from memviz.training.contrastive import contrastive_loss, train_contrastive


class Towers(nn.Module):
    """Two small towers, called as open_clip's models are."""

    def __init__(self, seed: int = 0, as_dict: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.image = nn.Parameter(torch.randn(8, 6, generator=generator) / 3)
        self.text = nn.Parameter(torch.randn(40, 6, generator=generator) / 3)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))
        self.as_dict = as_dict

    def forward(self, images, tokens):
        pictures = nn.functional.normalize(images @ self.image, dim=1)
        texts = nn.functional.normalize(self.text[tokens].mean(1), dim=1)
        found = {
            "image_features": pictures,
            "text_features": texts,
            "logit_scale": self.logit_scale.exp(),
        }
        return found if self.as_dict else tuple(found.values())


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(20, 8, generator=generator)
    tokens = torch.randint(1, 38, (20, 5), generator=generator)
    tokens[:, 0], tokens[:, -1] = 38, 39
    return images, tokens


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_loss_by_hand(pairs):
    model = Towers()
    pictures, texts, scale = (found.detach() for found in model(*pairs))
    total = 0.0
    for i in range(20):
        row = [math.exp(float(scale * pictures[i] @ texts[j])) for j in range(20)]
        column = [math.exp(float(scale * pictures[j] @ texts[i])) for j in range(20)]
        total -= math.log(row[i] / sum(row)) + math.log(column[i] / sum(column))
    assert contrastive_loss(model, *pairs).item() == pytest.approx(total / 40, rel=1e-5)
    assert contrastive_loss(Towers(as_dict=True), *pairs).item() == pytest.approx(total / 40)


def test_loss_is_that_of_open_clip(pairs):
    from open_clip import ClipLoss

    model = Towers()
    theirs = ClipLoss()(*model(*pairs))
    assert contrastive_loss(model, *pairs).item() == pytest.approx(theirs.item(), rel=1e-6)


def test_same_seed_same_run_and_no_global_randomness(pairs):
    state, runs = torch.get_rng_state(), []
    for seed in (0, 0, 1):
        model = Towers()
        run = train_contrastive(
            model, *pairs, epochs=3, batch_size=6, caption_masking=0.4, seed=seed, progress=False
        )
        runs.append((run.loss, weights(model)))
        assert not model.training
    assert runs[0][0] == runs[1][0] != runs[2][0]
    assert same(runs[0][1], runs[1][1])
    assert torch.equal(torch.get_rng_state(), state)


class Dropping(Towers):
    """Draws from torch's global generator."""

    def forward(self, images, tokens):
        return super().forward(nn.functional.dropout(images, 0.4, self.training), tokens)


def test_what_the_model_draws_is_seeded_too(pairs, tmp_path):
    runs = []
    for seed, disturb in ((0, 1), (0, 2), (1, 3)):
        torch.manual_seed(disturb)
        state, model = torch.get_rng_state(), Dropping()
        run = train_contrastive(model, *pairs, epochs=4, batch_size=6, seed=seed, progress=False)
        runs.append((run.loss, weights(model)))
        assert torch.equal(torch.get_rng_state(), state)
    assert runs[0][0] == runs[1][0] != runs[2][0] and same(runs[0][1], runs[1][1])

    def stop(epoch, model):
        if epoch == 3:
            raise KeyboardInterrupt

    settings = {"epochs": 4, "batch_size": 6, "folder": tmp_path, "progress": False}
    with pytest.raises(KeyboardInterrupt):
        train_contrastive(Dropping(), *pairs, on_epoch=stop, **settings)
    torch.manual_seed(9)
    model = Dropping()
    assert train_contrastive(model, *pairs, **settings).loss == runs[0][0]
    assert same(weights(model), runs[0][1])


def test_a_held_out_loss_that_stays_level_has_not_fallen(pairs):
    """Towers that give the same for all pairs: ln 6 after every epoch."""

    class Level(Towers):
        def forward(self, images, tokens):
            return super().forward(0 * images + 1, 0 * tokens)

    held_out = tuple(part[:6] for part in pairs)
    run = train_contrastive(
        Level(), *pairs, epochs=9, held_out=held_out, patience=2, temperature=1.0, progress=False
    )
    assert len(set(run.held_out_loss)) == 1 and run.held_out_loss[0] == pytest.approx(math.log(6))
    assert run.best_epoch == 1 and len(run.loss) == 3


def test_a_held_out_loss_that_is_no_number_is_told(pairs):
    images, tokens = pairs
    bad = images.clone()
    bad[2] = torch.nan
    with pytest.raises(FloatingPointError, match="held-out loss stopped being finite in epoch 1"):
        train_contrastive(Towers(), *pairs, held_out=(bad, tokens), progress=False)
    for held_out, words in (
        ((images[:1], tokens[:1]), "there are 1 held-out images and 1 captions"),
        ((images[:4], tokens[:3]), "there are 4 held-out images and 3 captions"),
    ):
        with pytest.raises(ValueError, match=words):
            train_contrastive(Towers(), *pairs, held_out=held_out, progress=False)


def test_fixed_temperature_stays_and_learned_one_is_bounded(pairs):
    model = Towers()
    train_contrastive(model, *pairs, epochs=3, temperature=0.2, progress=False)
    assert model.logit_scale.item() == pytest.approx(math.log(5))
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    train_contrastive(model, *pairs, epochs=1, progress=False)
    assert model.logit_scale.item() <= math.log(100) + 1e-6


def test_decay_spares_the_scale(pairs):
    # With a learning rate that moves nothing else much, decay alone shrinks matrices.
    model = Towers()
    before = weights(model)
    train_contrastive(
        model, *pairs, epochs=40, learning_rate=1e-5, weight_decay=1000.0, progress=False
    )
    after = weights(model)
    assert after["image"].norm() < 0.9 * before["image"].norm()
    assert abs(float(after["logit_scale"]) - 2) < 1e-3


def test_checkpoints_are_what_a_shorter_look_sees(pairs):
    model, seen = Towers(), {}
    run = train_contrastive(
        model,
        *pairs,
        epochs=4,
        checkpoint_epochs=(0, 2, 4),
        on_epoch=lambda epoch, now: seen.update({epoch: weights(now)}),
        progress=False,
    )
    assert sorted(run.checkpoints) == [0, 2, 4]
    assert same(run.checkpoints[2], seen[2]) and same(run.checkpoints[4], weights(model))
    assert same(run.checkpoints[0], weights(Towers()))


def test_early_stop_puts_the_best_epoch_back(pairs):
    images, tokens = pairs
    model = Towers()
    run = train_contrastive(
        model,
        images[:10],
        tokens[:10],
        epochs=200,
        learning_rate=0.05,
        held_out=(images[10:], tokens[10:]),
        patience=3,
        progress=False,
    )
    # Pairs are random: what is learned of ten does not carry over, so the held-out loss must rise.
    assert len(run.held_out_loss) == run.best_epoch + 3 < 200
    assert run.held_out_loss[run.best_epoch - 1] == min(run.held_out_loss)
    with torch.no_grad():
        loss = contrastive_loss(model, images[10:], tokens[10:]).item()
    assert loss == pytest.approx(min(run.held_out_loss), rel=1e-5)


def test_interrupt_leaves_a_finished_epoch(pairs):
    seen = {}

    def stop(epoch, model):
        seen[epoch] = weights(model)
        if epoch == 3:
            raise KeyboardInterrupt

    model = Towers()
    with pytest.raises(KeyboardInterrupt) as caught:
        train_contrastive(model, *pairs, epochs=9, on_epoch=stop, progress=False)
    assert same(weights(model), seen[2]) and not model.training
    assert "is as it was after epoch 2" in caught.value.__notes__[0]


def test_a_loss_that_is_no_number_is_told(pairs):
    images, tokens = pairs
    images = images.clone()
    images[3] = torch.nan
    model = Towers()
    with pytest.raises(FloatingPointError, match="learning_rate below"):
        train_contrastive(model, images, tokens, epochs=2, progress=False)
    assert same(weights(model), weights(Towers()))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 1}, "batch_size at least 2"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay not below 0"),
        ({"temperature": 0.0}, "temperature must lie"),
        ({"patience": 2}, "needs held-out"),
        ({"checkpoint_epochs": (99,)}, r"but got \[99\]"),
        ({"caption_masking": 2.0}, "between 0 and 1"),
    ],
)
def test_wrong_settings_get_a_sentence(pairs, wrong, words):
    with pytest.raises(ValueError, match=words):
        train_contrastive(Towers(), *pairs, progress=False, **wrong)


def test_wrong_pairs_get_a_sentence(pairs):
    with pytest.raises(ValueError, match="20 images and 19 captions"):
        train_contrastive(Towers(), pairs[0], pairs[1][:19], progress=False)
