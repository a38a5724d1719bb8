"""Variants: the model at a checkpoint, or its example-tied dropout in another mode."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import memviz as mv
from memviz.training.example_tied_dropout import insert_example_tied_dropout, set_mode
from memviz.variants import variant, variants


def study(**changes: object) -> mv.Study:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3)).eval()
        early = nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3)).state_dict()
    given = {"checkpoints": {9: model.state_dict(), 2: early}} | changes
    inputs = torch.randn(8, 4, generator=generator)
    return mv.Study(model, inputs, torch.arange(8) % 3, {"test": range(8)}, **given)  # type: ignore[arg-type]


def test_checkpoints_come_in_order_and_are_the_weights_of_their_epoch() -> None:
    given = study()
    assert list(variants(given)) == ["", "epoch 2", "epoch 9"]
    early = variant(given, "epoch 2")
    linear = early.model.get_submodule("0")
    assert torch.equal(linear.weight, given.checkpoints[2]["0.weight"])  # type: ignore[arg-type]
    assert not torch.equal(given.model.get_submodule("0").weight, linear.weight)  # type: ignore[arg-type]
    assert variant(given, "") is given
    assert torch.equal(early.inputs, given.inputs) and early.groups.keys() == given.groups.keys()  # type: ignore[arg-type]


def test_modes_of_example_tied_dropout() -> None:
    inputs = {"images": torch.rand(8, 4) + 1, "example_ids": torch.arange(8)}
    model = nn.Sequential(nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 3)).eval()
    insert_example_tied_dropout(model, ["1"], 0.2, 0.5)
    set_mode(model, "dropped")
    given = mv.Study(
        Named(model).eval(), {"images": inputs["images"]}, torch.arange(8) % 3, {"test": range(8)}
    )
    assert list(variants(given)) == ["", "scaled"]  # nobody says who comes
    given = mv.Study(model, inputs["images"], torch.arange(8) % 3, {"test": range(8)})
    assert variants(given)[""] == "memorization dropped"
    scaled = variant(given, "scaled")
    assert not torch.allclose(scaled.model(inputs["images"]), model(inputs["images"]))


class Named(nn.Module):
    """Takes its images by name."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images)


def test_a_wrong_name_and_a_checkpoint_of_another_architecture() -> None:
    with pytest.raises(ValueError, match=r"no variant 'epoch 3'.*'', 'epoch 2', 'epoch 9'"):
        variant(study(), "epoch 3")
    other = study(checkpoints={1: nn.Linear(4, 3).state_dict()})
    with pytest.raises(ValueError, match="another architecture"):
        variant(other, "epoch 1")


def test_a_session_looks_at_variants_and_back() -> None:
    given = study()
    session, early = mv.Session(given), mv.Replay(variant(given, "epoch 2"))
    session.look_at("epoch 2")
    session.ablate("0:1,4")
    assert torch.allclose(session.replay.clean, early.clean)
    assert torch.allclose(session.toggles.outputs("0:1,4", mv.Zero()), early.outputs("0:1,4"))
    session.undo()
    session.undo()
    assert session.variant == "" and session.replay.study is given
    session.redo()
    assert session.variant == "epoch 2"
    with pytest.raises(ValueError, match="no variant 'epoch 7'"):
        session.look_at("epoch 7")


def test_a_variant_is_saved_and_written_as_code(tmp_path) -> None:
    given = study(origin="study()")
    session = mv.Session(given)
    session.look_at("epoch 2")
    session.save(tmp_path / "s.json")
    again = mv.Session(given)
    again.load(tmp_path / "s.json")
    assert again.variant == "epoch 2"
    scope = {"study": study}
    exec(session.to_code().replace("study = study()", "study = study()"), scope)
    assert scope["session"].variant == "epoch 2"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="which this study does not have"):
        mv.Session(study(checkpoints={})).load(tmp_path / "s.json")
