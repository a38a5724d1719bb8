"""SimCLR and masked training: the loss, what is learned, repeatability, interrupts, input."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memviz.training.self_supervised import masks, nt_xent, train_masked, train_simclr


def noise(x: Tensor, generator: torch.Generator) -> Tensor:
    return x + 0.3 * torch.randn(x.shape, generator=generator)


def encoder(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.ReLU())


def pictures(n: int = 12) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_nt_xent_against_its_definition() -> None:
    rows = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    unit = (rows / rows.norm(dim=1, keepdim=True)).numpy().astype(np.float64)
    losses = []
    for i in range(6):
        other = (i + 3) % 6
        weights = [np.exp(unit[i] @ unit[k] / 0.5) for k in range(6) if k != i]
        losses.append(-np.log(np.exp(unit[i] @ unit[other] / 0.5) / sum(weights)))
    assert nt_xent(rows, 0.5).item() == pytest.approx(np.mean(losses), abs=1e-5)


def test_as_many_patches_of_each_image_are_masked() -> None:
    hidden = masks(torch.zeros(50, 3, 6, 4), 2, 0.5, torch.Generator().manual_seed(0))
    assert hidden.shape == (50, 1, 6, 4)
    patches = hidden.unfold(2, 2, 2).unfold(3, 2, 2).float().mean((4, 5))
    assert set(patches.unique().tolist()) == {0.0, 1.0}
    assert (patches.sum((1, 2, 3)) == 3).all() and (patches.sum(0) > 10).all()


@pytest.mark.parametrize("how", ["simclr", "masked"])
def test_it_learns_repeats_itself_and_draws_from_its_seed_alone(how: str) -> None:
    def run(seed: int) -> tuple[nn.Module, list[float]]:
        model = encoder()
        if how == "simclr":
            found = train_simclr(model, pictures(), noise, epochs=60, batch_size=6, seed=seed,
                                 learning_rate=1e-2, progress=False)  # fmt: skip
        else:
            found = train_masked(model, pictures(), epochs=60, batch_size=6, seed=seed,
                                 learning_rate=1e-2, masked=0.5, progress=False)  # fmt: skip
        return model, found.loss

    state = torch.get_rng_state()
    (one, loss), (again, same), (_, other) = run(0), run(0), run(1)
    assert torch.equal(torch.get_rng_state(), state) and not one.training
    assert loss == same and loss != other
    for name, value in one.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert np.mean(loss[-5:]) < np.mean(loss[:5]) - 0.05 * abs(np.mean(loss[:5]))


@pytest.mark.parametrize("how", ["simclr", "masked"])
def test_dropout_is_drawn_from_the_seed(how: str) -> None:
    def run(state: int, seed: int) -> dict[str, Tensor]:
        model = encoder().append(nn.Dropout(0.3))
        torch.manual_seed(state)
        before = torch.get_rng_state()
        if how == "simclr":
            train_simclr(model, pictures(), noise, epochs=3, batch_size=6, seed=seed,
                         progress=False)  # fmt: skip
        else:
            train_masked(model, pictures(), epochs=3, batch_size=6, seed=seed, progress=False)
        assert torch.equal(torch.get_rng_state(), before)
        return model.state_dict()

    one, again, other = run(0, 5), run(1, 5), run(0, 6)
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not torch.equal(one["1.weight"], other["1.weight"])


def test_simclr_brings_views_of_an_image_together() -> None:
    model, images = encoder(), pictures()

    def apart(model: nn.Module) -> float:
        views = [noise(images, torch.Generator().manual_seed(k)) for k in (1, 2)]
        with torch.no_grad():
            rows = [nn.functional.normalize(model.eval()(view), dim=1) for view in views]
        same = (rows[0] - rows[1]).norm(dim=1).mean()
        return float(same / (rows[0] - rows[1].roll(1, 0)).norm(dim=1).mean())

    before = apart(model)
    train_simclr(model, images, noise, epochs=150, batch_size=12, learning_rate=1e-2,
                 progress=False)  # fmt: skip
    assert apart(model) < 0.8 * before


def test_an_interrupt_leaves_the_last_finished_epoch() -> None:
    model, states = encoder(), []

    def look(epoch: int, model: nn.Module) -> None:
        states.append({k: v.clone() for k, v in model.state_dict().items()})
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_simclr(model, pictures(), noise, epochs=9, on_epoch=look, progress=False)
    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, states[1][name])


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        train_simclr(encoder(), pictures(), noise, temperature=0)
    with pytest.raises(ValueError, match="epochs must be at least 1 and batch_size at least 2"):
        train_simclr(encoder(), pictures(), noise, batch_size=1)
    with pytest.raises(ValueError, match="there are 1 images"):
        train_simclr(encoder(), pictures(1), noise)
    with pytest.raises(ValueError, match="learning_rate must be above 0"):
        train_masked(encoder(), pictures(), learning_rate=0)
    with pytest.raises(ValueError, match="not cut into patches of 3 x 3"):
        train_masked(encoder(), pictures(), patch=3)
    with pytest.raises(ValueError, match="masked must lie between 0 and 1"):
        train_masked(encoder(), pictures(), masked=1.0)
    model = encoder()
    with pytest.raises(FloatingPointError, match="try a learning_rate below"):
        train_simclr(model, pictures() * torch.nan, noise, progress=False)
    assert all(value.isfinite().all() for value in model.state_dict().values())
