"""The training loop: equal to a loop written out, reproducible, and safe to interrupt."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from memviz.training.loop import predict, train


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, 6, generator=generator)
    return inputs, torch.randint(0, 3, (50,), generator=generator)


def small_model():
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return model


SETTINGS = {
    "epochs": 6,
    "batch_size": 16,
    "learning_rate": 0.05,
    "weight_decay": 1e-3,
    "seed": 3,
    "progress": False,
}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_equals_momentum_sgd_written_out(data):
    inputs, labels = data
    trained, model = small_model(), small_model()
    run = train(trained, inputs, labels, **SETTINGS)

    generator = torch.Generator().manual_seed(3)
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    step, steps, correct = 0, 6 * 4, []
    for _ in range(6):
        model.train()
        order = torch.randperm(50, generator=generator)
        for start in range(0, 50, 16):
            batch = order[start : start + 16]
            loss = cross_entropy(model(inputs[batch]), labels[batch])
            slopes = torch.autograd.grad(loss, list(model.parameters()))
            rate = 0.05 * (1 + torch.cos(torch.tensor(torch.pi * step / steps))) / 2
            with torch.no_grad():
                for p, slope, v in zip(model.parameters(), slopes, velocity, strict=True):
                    v.mul_(0.9).add_(slope + 1e-3 * p)
                    p.sub_(rate * v)
            step += 1
        model.eval()
        correct.append(model(inputs).argmax(1) == labels)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    assert torch.equal(run.correct, torch.stack(correct))


def test_same_seed_same_run_and_the_global_generator_is_untouched(data):
    first, second, other = small_model(), small_model(), small_model()
    torch.manual_seed(9)
    before = torch.get_rng_state()
    train(first, *data, **SETTINGS)
    train(second, *data, **SETTINGS)
    train(other, *data, **{**SETTINGS, "seed": 4})
    assert torch.equal(torch.get_rng_state(), before)
    assert same(first.state_dict(), second.state_dict())
    assert not same(first.state_dict(), other.state_dict())


def test_checkpoints_are_copies_from_the_start_to_the_end_with_their_buffers(data):
    model = small_model()
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run = train(model, *data, **SETTINGS, checkpoint_epochs=(0, 2, 6))
    assert list(run.checkpoints) == [0, 2, 6]
    assert same(run.checkpoints[0], start)
    assert same(run.checkpoints[6], model.state_dict())
    assert run.checkpoints[2]["1.num_batches_tracked"] == 8
    again = small_model()
    again.load_state_dict(run.checkpoints[2])
    assert torch.equal(predict(again, data[0]) == data[1], run.correct[1])


def test_record_ends_with_the_final_model(data):
    model = small_model()
    run = train(model, *data, **SETTINGS)
    assert not model.training
    assert run.correct.shape == (6, 50)
    assert run.correct.dtype == torch.bool
    assert torch.equal(run.correct[-1], predict(model, data[0]) == data[1])
    assert run.accuracy[-1] == run.correct[-1].float().mean()
    assert run.loss.shape == (6,)
    assert run.loss[-1] < run.loss[0]


def test_on_epoch_is_told_each_epoch_and_progress_goes_to_the_error_stream(data, capsys):
    epochs = []
    train(
        small_model(),
        *data,
        **{**SETTINGS, "progress": True},
        on_epoch=lambda epoch, model: epochs.append((epoch, model.training)),
    )
    assert epochs == [(epoch, False) for epoch in range(1, 7)]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "6/6" in shown.err


def test_an_interrupt_in_the_middle_of_an_epoch_leaves_the_last_finished_one(data):
    kept = {}

    class Interrupted(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.steps = small_model(), 0

        def forward(self, x):
            if self.training:
                self.steps += 1
                if self.steps == 11:  # Third epoch of four steps, after two of its updates.
                    raise KeyboardInterrupt
            return self.inner(x)

    def keep(epoch, model):
        kept[epoch] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    model = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        train(model, *data, **SETTINGS, on_epoch=keep)
    assert list(kept) == [1, 2]
    assert same(model.state_dict(), kept[2])
    assert not model.training


def test_a_loss_that_explodes_is_said_and_the_weights_stay_finite(data):
    model = nn.Linear(6, 3)
    with pytest.raises(FloatingPointError, match=r"stopped being finite in epoch .* below 1e"):
        train(model, *data, **{**SETTINGS, "learning_rate": 1e38, "epochs": 50})
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_some_examples_are_trained_on_and_all_are_recorded(data):
    inputs, labels = data
    chosen = torch.tensor([41, 3, 17, 8, 29, 30, 12, 0])
    some, alone, seen = small_model(), small_model(), []

    def loss(logits, labels, indices):
        seen.append(indices)
        return cross_entropy(logits, labels)

    run = train(some, inputs, labels, **{**SETTINGS, "batch_size": 3}, examples=chosen, loss=loss)
    train(alone, inputs[chosen], labels[chosen], **{**SETTINGS, "batch_size": 3})
    assert same(some.state_dict(), alone.state_dict())
    assert [len(batch) for batch in seen] == [3, 3, 2] * 6
    for epoch in range(6):
        met = torch.cat(seen[3 * epoch : 3 * epoch + 3])
        assert torch.equal(met.sort().values, chosen.sort().values)
    assert run.correct.shape == (6, 50)
    assert torch.equal(
        run.presented_losses[0].isnan().logical_not().nonzero()[:, 0], chosen.sort()[0]
    )
    torch.testing.assert_close(run.loss, run.presented_losses.nanmean(1))


def test_rates_are_those_of_the_epochs_first_steps(data):
    run = train(small_model(), *data, **SETTINGS)
    steps = torch.arange(6, dtype=torch.float64) * 4
    expected = 0.05 * (1 + torch.cos(torch.pi * steps / 24)) / 2
    torch.testing.assert_close(run.learning_rates, expected)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"labels": torch.zeros(49, dtype=torch.long)}, r"shape \[49\] for 50 inputs"),
        ({"labels": torch.zeros(50)}, "must be integers"),
        ({"inputs": torch.zeros(0, 6), "labels": torch.zeros(0, dtype=torch.long)}, "no examples"),
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay not below 0"),
        ({"checkpoint_epochs": (0, 7)}, r"between 0 and epochs=6, but got \[7\]"),
        ({"labels": torch.full((50,), 3)}, "3 classes, 0 to 2, and example 0 has the label 3"),
        ({"labels": torch.full((50,), -1)}, "0 to 2, and example 0 has the label -1"),
        ({"examples": torch.ones(50, dtype=torch.bool)}, r"mask.nonzero\(\)\[:, 0\]"),
        ({"examples": torch.tensor([3, 50])}, "at least one index from 0 to 49"),
        ({"examples": torch.tensor([3, 3])}, "names an example twice"),
    ],
)
def test_bad_input_gets_one_clear_sentence(data, wrong, said):
    given = {"inputs": data[0], "labels": data[1], **SETTINGS, **wrong}
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=said):
        train(model, **given)
    assert same(model.state_dict(), before)


def dropping_model():
    inner = small_model()
    return nn.Sequential(*inner[:3], nn.Dropout(0.4), inner[3])


def test_dropout_is_the_same_for_the_same_seed_and_another_in_every_epoch(data):
    inputs, labels = data
    runs, drawn = [], []

    def look(epoch, model):
        drawn.append(torch.rand(()).item())  # a caller's own draws do not count

    for state, seed in ((1, 3), (2, 3), (3, 4)):
        model = dropping_model()
        torch.manual_seed(state)
        runs.append((train(model, inputs, labels, **{**SETTINGS, "seed": seed}, on_epoch=look),
                     model.state_dict()))  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(state)
            assert drawn[-6:] == [torch.rand(()).item() for _ in range(6)]
    (run, state), (again, state_again), (_, other) = runs
    assert same(state, state_again) and not same(state, other)
    assert torch.equal(run.presented_margins, again.presented_margins)

    masks = []
    model = dropping_model()
    model[3].register_forward_hook(
        lambda module, given, out: masks.append(out == 0) if module.training else None
    )
    train(model, inputs, labels, **{**SETTINGS, "learning_rate": 1e-30, "weight_decay": 0.0})
    first, second = torch.cat(masks[:4]), torch.cat(masks[4:8])
    assert not torch.equal(first.sum(1).sort().values, second.sum(1).sort().values)


@pytest.mark.parametrize("stop", [1, 4])
def test_with_dropout_a_resumed_run_ends_like_an_uninterrupted_one(data, tmp_path, stop):
    whole = dropping_model()
    expected = train(whole, *data, **SETTINGS)

    def interrupt(epoch, model):
        if epoch == stop + 1:
            raise KeyboardInterrupt

    model = dropping_model()
    torch.manual_seed(1)
    with pytest.raises(KeyboardInterrupt):
        train(model, *data, **SETTINGS, folder=tmp_path, on_epoch=interrupt)
    torch.manual_seed(2)
    model = dropping_model()
    run = train(model, *data, **SETTINGS, folder=tmp_path)
    assert same(model.state_dict(), whole.state_dict())
    for name, table in expected.tables.items():
        assert torch.equal(getattr(run, name), table)


def test_adamw_at_a_constant_rate_equals_the_loop_written_out(data):
    inputs, labels = data
    trained, model = small_model(), small_model()
    run = train(trained, inputs, labels, optimizer="adamw", schedule="constant", **SETTINGS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=1e-3)
    generator = torch.Generator().manual_seed(3)
    for _ in range(6):
        for batch in torch.randperm(50, generator=generator).split(16):
            model.train()
            optimizer.zero_grad()
            cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    assert same(trained.state_dict(), model.state_dict())
    assert run.learning_rates.tolist() == [0.05] * 6


def test_unknown_optimizers_and_schedules_are_refused(data):
    for wrong in ({"optimizer": "adam"}, {"schedule": "linear"}):
        (name, value) = next(iter(wrong.items()))
        with pytest.raises(ValueError, match=f"{name} is .* but got '{value}'"):
            train(small_model(), *data, **wrong)


def test_a_training_with_adamw_goes_on(data, tmp_path):
    def stop(epoch, model):
        if epoch == 3:
            raise KeyboardInterrupt

    settings = SETTINGS | {"optimizer": "adamw", "schedule": "constant"}
    model, whole = small_model(), small_model()
    train(whole, *data, **settings)
    with pytest.raises(KeyboardInterrupt):
        train(model, *data, folder=tmp_path, on_epoch=stop, **settings)
    train(model, *data, folder=tmp_path, **settings)
    assert same(model.state_dict(), whole.state_dict())
    with pytest.raises(ValueError, match="it has optimizer .adamw, constant., not .adamw, cosine."):
        train(small_model(), *data, folder=tmp_path, **settings | {"schedule": "cosine"})
    with pytest.raises(ValueError, match="it has optimizer"):
        train(small_model(), *data, folder=tmp_path, **SETTINGS)
