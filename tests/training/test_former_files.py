"""Files that version 0.1.0 wrote, before the code moved: each loads, or is refused in a sentence.

They lie in ``tests/data_files/former``. Weights and inputs are whole eighths, so that they and
their hashes are the same on every machine.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.engine.sweep import Effects
from memviz.tensor_files import digest
from memviz.training.checkpoints import load_checkpoint
from memviz.training.contrastive import ContrastiveRun, train_contrastive
from memviz.training.loop import train
from memviz.training.run import TrainingRun
from memviz.training.subsets import SubsetTrainings, train_subsets

FORMER = Path(__file__).parents[1] / "data_files" / "former"
SETTINGS = {
    "epochs": 4,
    "batch_size": 4,
    "checkpoint_epochs": (0, 2),
    "seed": 3,
    "progress": False,
}
LABELS = torch.arange(8) % 2


def eighths(*shape: int) -> Tensor:
    return (torch.arange(torch.Size(shape).numel()) * 5 % 13 - 6).view(shape) / 8


def network() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    state = {name: eighths(*value.shape) for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    return model


def study() -> mv.Study:
    groups = {"memorized": range(2), "clean": range(2, 6), "test": range(6, 8)}
    return mv.Study(network().eval(), eighths(8, 3), LABELS, groups)


class Towers(nn.Module):
    """Two small towers, called as open_clip's models are."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Parameter(eighths(3, 4)), nn.Parameter(eighths(10, 4))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pictures = nn.functional.normalize(images @ self.image, dim=1)
        texts = nn.functional.normalize(self.text[tokens].mean(1), dim=1)
        return pictures, texts, self.logit_scale.exp()


def fit(inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
    return labels[chosen][torch.cdist(inputs, inputs[chosen]).argmin(1)]


@pytest.fixture
def former(tmp_path: Path) -> Path:
    """A copy, since a training that goes on writes into its folder."""
    return Path(shutil.copytree(FORMER, tmp_path / "former"))


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize(("name", "exact"), [("effects", True), ("estimates", False)])
def test_effects_are_loaded_and_gone_on_from(name: str, exact: bool, former: Path) -> None:
    path = former / f"{name}.safetensors"
    again = mv.sweep(study(), progress=False) if exact else mv.estimate(study())
    effects = Effects.load(path, study())
    assert (effects.units, effects.how) == (again.units, "zero")
    assert effects.engine == again.engine == ("graph" if exact else "estimate")
    assert torch.equal(effects.exact, again.exact)
    for table in ("margin", "loss", "margin_change", "loss_change"):
        close(getattr(effects, table), getattr(again, table))
    whole = mv.sweep(study(), path=path, progress=False)
    close(whole.margin_change, mv.sweep(study(), progress=False).margin_change)
    other = study()
    other.task = type("Another", (mv.Classification,), {})()
    with pytest.raises(ValueError, match="another task than this study"):
        Effects.load(path, other)


def test_a_session_is_loaded_with_its_own_weights_only() -> None:
    session = mv.Session(study())
    session.load(FORMER / "session.json")
    assert (str(session.units), session.how) == ("0:1,3", "mean")
    assert (session.examples, session.opened) == ((4, 2), 2)
    with torch.no_grad():
        session.study.model[0].weight[0, 0] += 1 / 8
    with pytest.raises(ValueError, match="saved with"):
        session.load(FORMER / "session.json")


def test_a_session_saved_now_has_the_hash_of_all_other_files(tmp_path: Path) -> None:
    mv.Session(study()).save(tmp_path / "session.json")
    content = json.loads((tmp_path / "session.json").read_text())
    assert content["weights"] == digest(network().state_dict())
    assert content["weights"] != json.loads((FORMER / "session.json").read_text())["weights"]


def test_a_folder_of_trainings_must_be_made_again(former: Path) -> None:
    folder = former / "subsets"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    run = partial(train_subsets, study(), fit, trainings=3, progress=False)
    said = "of an earlier version of memviz, .* must be made again; name another folder, or delete"
    with pytest.raises(ValueError, match=said):
        run(folder=folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    # What was saved from it in one file needs no recipe.
    kept, anew = SubsetTrainings.load(former / "subsets.safetensors"), run()
    for name in ("examples", "inside", "correct"):
        assert torch.equal(getattr(kept, name), getattr(anew, name))


def test_a_recorded_run_is_loaded() -> None:
    kept = TrainingRun.load(FORMER / "run.safetensors")
    again = train(network(), eighths(8, 3), LABELS, **SETTINGS)
    assert kept.tables.keys() == again.tables.keys()
    for name, table in kept.tables.items():
        close(table, again.tables[name])
    assert list(kept.checkpoints) == [0, 2]
    model = network()
    load_checkpoint(model, kept.checkpoints[2])
    close(model[0].weight, again.checkpoints[2]["0.weight"])


def test_a_training_stopped_then_goes_on_now(former: Path) -> None:
    model, epochs = network(), []
    run = train(
        model,
        eighths(8, 3),
        LABELS,
        **SETTINGS,
        folder=former / "training",
        on_epoch=lambda epoch, _: epochs.append(epoch),
    )
    whole = network()
    expected = train(whole, eighths(8, 3), LABELS, **SETTINGS)
    assert epochs == [3, 4]
    close(run.losses, expected.losses)
    close(model[0].weight, whole[0].weight)
    close(run.checkpoints[2]["0.weight"], expected.checkpoints[2]["0.weight"])
    with pytest.raises(ValueError, match="holds another training: it has seed 3, not 4"):
        train(
            network(), eighths(8, 3), LABELS, **{**SETTINGS, "seed": 4}, folder=former / "training"
        )


def test_a_contrastive_training_stopped_then_goes_on_now(former: Path) -> None:
    tokens = torch.tensor([[8, word, 9] for word in range(6)])
    epochs: list[int] = []

    def trained(model: nn.Module, **more: object) -> ContrastiveRun:
        return train_contrastive(
            model, eighths(6, 3), tokens, **SETTINGS, caption_masking=0.4, **more
        )

    model, whole = Towers(), Towers()
    run = trained(
        model, folder=former / "contrastive", on_epoch=lambda epoch, _: epochs.append(epoch)
    )
    expected = trained(whole)
    assert epochs == [3, 4]
    close(torch.tensor(run.loss), torch.tensor(expected.loss))
    close(model.image, whole.image)
    assert list(run.checkpoints) == [0, 2]
