"""The recorder: equal to a slow count by hand, no trace on the model, and nothing lost."""

import copy
import importlib.util
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from memviz.training.checkpoints import load_checkpoint
from memviz.training.lightning import lightning_callback
from memviz.training.loaders import WithIds
from memviz.training.loop import train
from memviz.training.recorder import Recorder
from memviz.training.run import TrainingRun


def small_model(hidden=16):
    model = nn.Sequential(nn.Linear(6, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(0.5))
    model.append(nn.Linear(hidden, 3))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(50, 6, generator=generator)
    return inputs, torch.randint(0, 3, (50,), generator=generator)


def by_hand(model, inputs, labels):
    """Loss, margin and prediction of each example, one at a time in plain Python."""
    model = copy.deepcopy(model).eval()
    for x, y in zip(inputs, labels.tolist(), strict=True):
        logits = model(x[None])[0].tolist()
        total = math.log(sum(math.exp(z) for z in logits))
        others = [z for c, z in enumerate(logits) if c != y]
        yield total - logits[y], logits[y] - max(others), logits.index(max(logits))


def test_an_epoch_equals_a_count_by_hand(data):
    inputs, labels = data
    recorder, model = Recorder(inputs, labels), small_model()
    recorder.epoch(model, loss=0.7, learning_rate=0.1)
    load_checkpoint(
        model,
        {k: v.flip(0) for k, v in model.state_dict().items() if v.ndim}
        | {"1.num_batches_tracked": torch.tensor(0)},
    )
    recorder.epoch(model)
    run = recorder.run
    losses, margins, predictions = zip(*by_hand(model, inputs, labels), strict=True)
    torch.testing.assert_close(run.losses[1], torch.tensor(losses), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(run.margins[1], torch.tensor(margins), rtol=1e-4, atol=1e-4)
    assert run.predictions[1].tolist() == list(predictions)
    assert torch.equal(run.correct, run.predictions == labels)
    assert run.loss[0] == pytest.approx(0.7)
    assert run.loss[1].isnan()
    assert run.learning_rates[0] == 0.1
    assert run.presented_margins is None


class Noisy(nn.Module):
    """Draws and counts whatever its mode, as a careless model may."""

    def __init__(self):
        super().__init__()
        self.inner = small_model()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.inner(x) + 1e-3 * torch.randn(len(x), 3)


@pytest.mark.parametrize("labels", ["right", "outside"])
def test_the_model_and_the_random_state_are_as_before(data, labels):
    inputs, given = data
    given = given if labels == "right" else given + 1
    model = Noisy().train()
    model.inner[1].eval()  # a mixture of flags must come back as it was
    flags = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    recorder = Recorder(inputs, given)
    torch.manual_seed(4)
    before = torch.get_rng_state()
    if labels == "right":
        recorder.epoch(model)
    else:
        with pytest.raises(ValueError, match=r"classes, 0 to 2, and example \d+ has the label 3"):
            recorder.epoch(model)
        assert recorder.epochs == 0
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)
    assert not any(module._forward_hooks for module in model.modules())


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_presentations_are_kept_by_the_datasets_indices(draw):
    n, epochs = 7, 3
    generator = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(n, 6, generator=generator), torch.arange(n) % 3
    recorder, model = Recorder(inputs, labels), small_model()
    expected = [[math.nan] * n for _ in range(epochs)]
    for epoch in range(epochs):
        for _ in range(draw.draw(st.integers(0, 2))):
            ids = torch.tensor(draw.draw(st.lists(st.integers(0, n - 1), max_size=5, unique=True)))
            logits = torch.randn(len(ids), 3, generator=generator, requires_grad=True)
            recorder.batch(ids.long(), logits)
            for row, i in enumerate(ids.tolist()):
                z = logits[row].tolist()
                y = int(labels[i])
                expected[epoch][i] = z[y] - max(z[:y] + z[y + 1 :])
        recorder.epoch(model)
    found = recorder.run.presented_margins
    if found is None:
        assert all(math.isnan(value) for row in expected for value in row)
    else:
        torch.testing.assert_close(found, torch.tensor(expected), equal_nan=True)


def test_a_loader_in_any_order_gives_what_tensors_give(data):
    model = small_model()
    loader = DataLoader(
        WithIds(TensorDataset(*data)),
        batch_size=16,
        shuffle=True,
        generator=torch.Generator().manual_seed(5),
    )
    first, second = Recorder(loader), Recorder(*data)
    for recorder in (first, second):
        recorder.start(model)
        recorder.epoch(model)
    assert torch.equal(first.labels, data[1])
    assert torch.equal(first.run.predictions, second.run.predictions)
    torch.testing.assert_close(first.run.margins, second.run.margins, rtol=1e-4, atol=1e-5)


def test_a_dict_of_inputs_becomes_keyword_arguments(data):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small_model()

        def forward(self, pixels, scale):
            return self.inner(pixels) * scale

    recorder, plain = (
        Recorder({"pixels": data[0], "scale": torch.ones(50, 1)}, data[1]),
        Recorder(*data),
    )
    model = Named()
    recorder.epoch(model)
    plain.epoch(model.inner)
    assert torch.equal(recorder.run.margins, plain.run.margins)


def test_bad_input_gets_one_clear_sentence(data):
    inputs, labels = data
    with pytest.raises(ValueError, match=r"shape \[49\] for 50 inputs"):
        Recorder(inputs, labels[1:])
    with pytest.raises(ValueError, match="one for each input"):
        Recorder(inputs)
    with pytest.raises(ValueError, match="a loader brings its own labels"):
        Recorder(DataLoader(TensorDataset(inputs, labels)), labels)
    with pytest.raises(
        ValueError, match=r"2 parts; make its dataset return \(input, label, index\)"
    ):
        Recorder(DataLoader(TensorDataset(inputs, labels)))
    with pytest.raises(ValueError, match=r"not 0 to 49, each once \(missing: 1, "):
        Recorder(DataLoader(TensorDataset(inputs, labels, torch.arange(50) // 2 * 2)))
    recorder = Recorder(inputs, labels)
    with pytest.raises(ValueError, match=r"indices run from 3 to 50, and the dataset has 0 to 49"):
        recorder.batch(torch.tensor([3, 50]), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"shape \[3\] for logits of shape \[2, 3\]"):
        recorder.batch(torch.tensor([3, 4, 5]), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="not logits"):
        recorder.epoch(nn.Linear(6, 1))
    with pytest.raises(ValueError, match=r"label 2; give labels"):
        recorder.start(nn.Linear(6, 2))


def recorded(data, **where):
    recorder, model = Recorder(*data, checkpoint_epochs=(0, 2), **where), small_model()
    recorder.start(model)
    for _ in range(2):
        recorder.batch(torch.tensor([4, 2]), torch.randn(2, 3, generator=torch.Generator()))
        recorder.epoch(model, learning_rate=0.3)
    return recorder.run, model


@pytest.mark.parametrize("in_folder", [False, True])
def test_a_run_is_saved_and_read_whole(data, tmp_path, in_folder):
    run, model = recorded(data, **({"folder": tmp_path / "checkpoints"} if in_folder else {}))
    run.save(tmp_path / "run.safetensors")
    again = TrainingRun.load(tmp_path / "run.safetensors")
    assert repr(again) == "TrainingRun(2 epochs, 50 examples, checkpoints 0, 2)"
    assert run.tables.keys() == again.tables.keys()
    for name, table in run.tables.items():
        torch.testing.assert_close(again.tables[name], table, rtol=0, atol=0, equal_nan=True)
    for epoch in (0, 2):
        for name, tensor in model.state_dict().items():
            assert torch.equal(again.checkpoints[epoch][name], tensor)
    assert sorted(path.name for path in tmp_path.glob("*")) == [
        *(["checkpoints"] if in_folder else []),
        "run.safetensors",
    ]


def test_tied_weights_can_be_saved(data, tmp_path):
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3))
    model[1].weight = model[0].weight
    recorder = Recorder(*data, checkpoint_epochs=(0,), folder=tmp_path)
    recorder.start(model)
    assert torch.equal(recorder.checkpoints[0]["1.weight"], model[0].weight)


def test_damaged_files_are_refused(data, tmp_path):
    run, _ = recorded(data)
    path = tmp_path / "run.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        TrainingRun.load(path)
    run.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="can't be read as a recorded training"):
        TrainingRun.load(path)
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(ValueError, match="was altered after it was written"):
        TrainingRun.load(path)
    recorded(data, folder=tmp_path)
    with pytest.raises(ValueError, match="not a recorded training"):
        TrainingRun.load(tmp_path / "epoch-0002.safetensors")


def test_a_checkpoint_of_another_architecture_changes_nothing(data):
    run, _ = recorded(data)
    model = small_model(hidden=8)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        ValueError, match=r"'0.weight' is \[16, 6\] in it and \[8, 6\] in the model"
    ):
        load_checkpoint(model, run.checkpoints[2])
    with pytest.raises(ValueError, match=r"'0.weight' is \[16, 6\] in it and missing in the model"):
        load_checkpoint(nn.Sequential(), run.checkpoints[2])
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


class Interrupting:
    """A loss that stops the training in one of its steps."""

    def __init__(self, at):
        self.steps, self.at = 0, at

    def __call__(self, logits, labels, indices):
        self.steps += 1
        if self.steps == self.at:
            raise KeyboardInterrupt
        return nn.functional.cross_entropy(logits, labels)


SETTINGS = {"epochs": 5, "batch_size": 16, "learning_rate": 0.05, "seed": 3, "progress": False}


def plain_model():
    return nn.Sequential(*[m for m in small_model() if not isinstance(m, nn.Dropout)])


@pytest.mark.parametrize("step", [1, 4, 9, 20])
def test_an_interrupted_training_ends_as_if_it_had_never_stopped(data, tmp_path, step):
    whole, folder = plain_model(), tmp_path / "kept"
    expected = train(whole, *data, **SETTINGS, loss=Interrupting(0), checkpoint_epochs=(0, 1, 5))
    model, call = plain_model(), {**SETTINGS, "checkpoint_epochs": (0, 1, 5), "folder": folder}
    with pytest.raises(KeyboardInterrupt) as stopped:
        train(model, *data, **call, loss=Interrupting(step))
    epoch = (step - 1) // 4
    assert stopped.value.__notes__ == [
        f"Training stopped in epoch {epoch + 1}; the model is as it was after epoch {epoch}, and "
        "the same call goes on from there."
    ]
    told = []
    # In the same kernel the model is the one that was stopped; in a new one it is built anew.
    for again in (copy.deepcopy(model), plain_model()):
        run = train(
            again, *data, **call, loss=Interrupting(0), on_epoch=lambda e, m: told.append(e)
        )
        assert all(torch.equal(again.state_dict()[k], v) for k, v in whole.state_dict().items())
        for name, table in expected.tables.items():
            torch.testing.assert_close(run.tables[name], table, rtol=0, atol=0)
        assert list(run.checkpoints) == [0, 1, 5]
        for epoch, state in expected.checkpoints.items():
            assert all(torch.equal(run.checkpoints[epoch][k], v) for k, v in state.items())
    assert told == list(range((step - 1) // 4 + 1, 6))  # each epoch once, over both calls


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": 8}, "it has batch_size 16, not 8"),
        ({"seed": 4}, "it has seed 3, not 4"),
        ({"checkpoint_epochs": (2,)}, r"checkpoint_epochs \[\], not \[2\]"),
        ({"examples": torch.arange(9)}, "it has other examples"),
        ({"inputs": torch.zeros(50, 6)}, "it has other inputs"),
        ({"loss": Interrupting(0)}, "it has loss _cross_entropy, not Interrupting"),
        ({"model": small_model(hidden=8)}, "another architecture: '0.weight'"),
        (
            {"model": nn.Sequential(*small_model()[:3], nn.Linear(16, 3))},
            "began from other weights",
        ),
    ],
)
def test_a_folder_of_another_training_is_refused_and_kept(data, tmp_path, change, said):
    call = {"model": plain_model(), "inputs": data[0], "labels": data[1], **SETTINGS}
    train(**call, folder=tmp_path)
    kept = (tmp_path / "training.safetensors").read_bytes()
    with pytest.raises(
        ValueError, match=rf"holds another training: .*{said}.*; name another folder"
    ):
        train(**{**call, "model": plain_model(), **change}, folder=tmp_path)
    assert (tmp_path / "training.safetensors").read_bytes() == kept


@pytest.mark.skipif(
    importlib.util.find_spec("lightning") is None, reason="PyTorch Lightning is not installed"
)
@pytest.mark.filterwarnings("ignore")
def test_lightning_feeds_the_recorder(data, tmp_path):
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.inner = plain_model()

        def forward(self, x):
            return self.inner(x)

        def training_step(self, batch, index):
            x, y, ids = batch
            logits = self(x)
            recorder.batch(ids, logits)
            return nn.functional.cross_entropy(logits, y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.05)

    recorder = Recorder(*data, checkpoint_epochs=(0, 3))
    module = Module()
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[lightning_callback(recorder)],
        default_root_dir=tmp_path,
    )
    trainer.fit(module, DataLoader(WithIds(TensorDataset(*data)), batch_size=10, shuffle=True))
    run = recorder.run
    assert len(run) == 3
    assert list(run.checkpoints) == [0, 3]
    assert torch.equal(run.predictions[-1], module.eval()(data[0]).argmax(1).int())
    assert run.learning_rates.tolist() == [0.05] * 3
    torch.testing.assert_close(
        run.loss, run.presented_losses.mean(1)
    )  # all batches are of one size
