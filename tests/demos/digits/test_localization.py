"""The demos of localization: what ships, what is trained and kept, and what is printed."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import memviz as mv
from memviz.demos import cifar10n
from memviz.demos.digits import SHIPPED_SEEDS, accounting, accounting_study, wide_study
from memviz.demos.digits import _accounting as digit_localization
from memviz.demos.digits import _study as digits
from memviz.demos.digits import localization as localization_tables


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One epoch, few examples, a cache of its own."""
    monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path))
    monkeypatch.setattr(digits, "EPOCHS", 1)
    monkeypatch.setattr(digit_localization, "CHECKPOINT_EPOCHS", (0, 1))
    monkeypatch.setattr(digit_localization, "WIDE_EPOCHS", 1)
    return tmp_path


@pytest.mark.parametrize("seed", SHIPPED_SEEDS)
def test_shipped_accounting_shows_the_papers_direction(seed: int) -> None:
    found = accounting(seed)
    assert found.epochs == tuple(range(1, 61))
    assert found.share == pytest.approx(0.1)
    assert (found.ratio > 0.5).all()
    assert (found.cosine.mean(0) < 0).all()
    assert (found.null_ratio < found.ratio).all()
    assert accounting(seed, 0.03).clean.shape == (60, 6)


def test_a_new_seed_is_trained_once_and_found_again(
    quick: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, study, net = accounting(7), accounting_study(7), wide_study(7, width=8)
    assert "about two minutes, once" in capsys.readouterr().out
    assert set(study.checkpoints) == {0, 1}

    def no(*_: object, **__: object) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr(digit_localization, "train", no)
    again = accounting(7)
    assert np.allclose(again.noisy, first.noisy, rtol=1e-6)
    assert again.layers == first.layers
    assert again.epochs == first.epochs == (1,)
    for mine, its in ((study, accounting_study(7)), (net, wide_study(7, width=8))):
        assert isinstance(its, mv.Study)
        for name, tensor in mine.model.state_dict().items():
            assert torch.equal(tensor, its.model.state_dict()[name])
    final = study.checkpoints[1]
    assert all(torch.equal(final[name], t) for name, t in study.model.state_dict().items())


def test_figures_are_kept_and_printed_with_their_spread(
    quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = []

    def make() -> pd.DataFrame:
        made.append(1)
        return pd.DataFrame({"group": ["a"], "count": [np.inf]})

    tables = [localization_tables.kept_table("some", make) for _ in range(2)]
    assert len(made) == 1
    assert tables[1].equals(tables[0])
    assert [path.suffix for path in quick.iterdir()] == [".csv"]
    index = pd.Index(["one"], name="layer")
    localization_tables._print("title", [pd.DataFrame({"x": [v]}, index=index) for v in (1, 2, 6)])
    assert "title; mean of 3 seeds (lowest to highest)" in (out := capsys.readouterr().out)
    assert "one  x 3 (1 to 6)" in out


class Small(nn.Module):
    """Stands in for the ResNet-9."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv1, self.bn1 = nn.Conv2d(3, 4, 8, stride=8, bias=False), nn.BatchNorm2d(4)
            self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.bn1(self.conv1(x)).relu().flatten(1))


def test_cifar10n_from_files_to_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.RandomState(0)
    for name, n in (("data_batch_1", 60), ("test_batch", 30)):
        batch = {
            "data": draw.randint(0, 256, (n, 3072)).astype(np.uint8),
            "labels": draw.randint(0, 10, n).tolist(),
        }
        if name == "data_batch_1":
            human = np.array(batch["labels"])
            human[:6] = (human[:6] + 1) % 10
        (tmp_path / name).write_bytes(pickle.dumps(batch, 2))
    np.savez(tmp_path / "labels.npz", worse_label=human)
    monkeypatch.setattr(cifar10n, "HalfResNet9", Small)
    common = ["--data", str(tmp_path), "--labels", str(tmp_path / "labels.npz"), "--kind", "worse"]
    sizes = ["--examples", "50", "--test", "20", "--epochs", "2"]
    cifar10n.main([*common, *sizes, "--at", "1", "--retrain", "head"])
    out = capsys.readouterr().out
    assert "6 memorized, 44 clean, 20 test" in out
    assert "accounting, mean of the epochs after 1:" in out
    assert "rewinding of parameters and statistics to epoch 0: accuracy" in out
    assert "layer retraining from epoch 0 on clean examples alone" in out
    with pytest.raises(ValueError, match="61 training and 1000 test images were asked for"):
        cifar10n.load(tmp_path, tmp_path / "labels.npz", kind="worse", examples=61)


def test_the_half_resnet_is_the_resnet_to_half_precision() -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    half, full = cifar10n.HalfResNet9(seed=1).eval(), mv.models.ResNet9(seed=1).eval()
    with torch.no_grad():
        logits, exact = half(images), full(images)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, exact, atol=0.05 * float(exact.abs().max()))
