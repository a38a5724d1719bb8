"""A stopped contrastive training goes on to the same bits, or is refused with a sentence."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from memviz.training.contrastive import FILE, ContrastiveRun, train_contrastive

Pairs = tuple[Tensor, Tensor]


class Towers(nn.Module):
    """Two small towers, called as open_clip's models are."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.image = nn.Parameter(torch.randn(8, 6, generator=generator) / 3)
        self.text = nn.Parameter(torch.randn(40, 6, generator=generator) / 3)
        self.gain = nn.Parameter(torch.ones(6))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pictures = nn.functional.normalize(images @ self.image * self.gain, dim=1)
        texts = nn.functional.normalize(self.text[tokens].mean(1), dim=1)
        return pictures, texts, self.logit_scale.exp()


def drawn(seed: int) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 38, (20, 5), generator=generator)
    tokens[:, 0], tokens[:, -1] = 38, 39
    return torch.randn(20, 8, generator=generator), tokens


SETTINGS = {
    "epochs": 7,
    "batch_size": 6,
    "caption_masking": 0.4,
    "checkpoint_epochs": (0, 2, 5),
    "seed": 3,
}


def trained(model: nn.Module, **settings: object) -> ContrastiveRun:
    return train_contrastive(model, *drawn(1), **{**SETTINGS, "progress": False, **settings})


def stop_at(epoch: int):
    def stop(now: int, model: nn.Module) -> None:
        if now == epoch:
            raise KeyboardInterrupt

    return stop


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.2}, {"held_out": drawn(2)}])
@pytest.mark.parametrize("anew", [True, False])
def test_goes_on_to_the_same_bits(tmp_path: Path, settings: dict, anew: bool):
    whole = Towers()
    expected = trained(whole, **settings)
    model = Towers()
    for epoch in (3, 6):
        with pytest.raises(KeyboardInterrupt) as caught:
            trained(model, **settings, folder=tmp_path, on_epoch=stop_at(epoch))
        assert f"stopped in epoch {epoch}" in caught.value.__notes__[0]
        assert "the same call goes on" in caught.value.__notes__[0]
        # Either the very model that was interrupted, or one made again in another process.
        model = Towers() if anew else model
    seen: list[int] = []
    run = trained(model, **settings, folder=tmp_path, on_epoch=lambda epoch, _: seen.append(epoch))
    assert seen == [6, 7]
    assert run.loss == expected.loss and run.held_out_loss == expected.held_out_loss
    assert run.best_epoch == expected.best_epoch
    assert same(model.state_dict(), whole.state_dict())
    assert list(run.checkpoints) == [0, 2, 5]
    assert all(same(run.checkpoints[e], expected.checkpoints[e]) for e in (0, 2, 5))


def test_a_finished_training_is_read(tmp_path: Path):
    first, second = Towers(), Towers()
    expected = trained(first, folder=tmp_path)
    run = trained(second, folder=tmp_path, on_epoch=stop_at(1))
    assert run.loss == expected.loss and same(first.state_dict(), second.state_dict())


def test_an_early_stop_is_not_trained_on(tmp_path: Path):
    settings = {"epochs": 200, "held_out": drawn(2), "patience": 3, "checkpoint_epochs": ()}
    whole, model = Towers(), Towers()
    expected = trained(whole, **settings, learning_rate=0.05)
    assert len(expected.loss) == expected.best_epoch + 3 < 200
    stop = expected.best_epoch + 2
    with pytest.raises(KeyboardInterrupt):
        trained(model, **settings, learning_rate=0.05, folder=tmp_path, on_epoch=stop_at(stop))
    for again in (model, Towers(), model):
        run = trained(again, **settings, learning_rate=0.05, folder=tmp_path)
        assert run.held_out_loss == expected.held_out_loss
        assert same(again.state_dict(), whole.state_dict())


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"seed": 4}, "it has seed 3, not 4"),
        ({"caption_masking": 0.0}, "it has caption_masking 0.4, not 0.0"),
        ({"temperature": 0.1}, "it has temperature null, not 0.1"),
        ({"checkpoint_epochs": (1,)}, "it has checkpoint_epochs"),
        ({"held_out": drawn(5)}, "it has other held-out images"),
    ],
)
def test_another_training_is_refused(tmp_path: Path, other: dict, words: str):
    trained(Towers(), folder=tmp_path)
    with pytest.raises(ValueError, match=f"holds another training: {words}"):
        trained(Towers(), folder=tmp_path, **other)


def test_other_weights_data_and_models_are_refused(tmp_path: Path):
    trained(Towers(), folder=tmp_path)
    with pytest.raises(ValueError, match="began from other weights"):
        trained(Towers(seed=1), folder=tmp_path)
    with pytest.raises(ValueError, match="it has other images"):
        train_contrastive(Towers(), *drawn(9), **SETTINGS, folder=tmp_path, progress=False)
    wider = Towers()
    wider.gain = nn.Parameter(torch.ones(7))
    with pytest.raises(ValueError, match="another architecture: 'gain'"):
        trained(wider, folder=tmp_path)


def test_a_damaged_file_gets_a_sentence(tmp_path: Path):
    trained(Towers(), folder=tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="delete it, or name another file"):
        trained(Towers(), folder=tmp_path)
