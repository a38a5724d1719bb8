"""Dask in this process, and pairs of encoders: the same tables, errors as they are, bad input."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import joblib
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.data.subsets import Subsets
from memviz.tensor_files import digest
from memviz.training.self_supervised import train_masked
from memviz.training.subsets import train_pairs, train_subsets

N = 40
INPUTS = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))
SETS = Subsets(range(5), range(5, 8), range(8, 11), range(11, 12))
FIT = partial(train_masked, epochs=2, batch_size=4, progress=False)


@pytest.fixture
def dask() -> Iterator[None]:
    """One worker, in a thread of this process."""
    distributed = pytest.importorskip("distributed")
    with distributed.Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
    ):
        with joblib.parallel_config("dask"):
            yield


def nearest(inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
    return labels[chosen][torch.cdist(inputs, inputs[chosen]).argmin(1)]


def encoder() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU())


def weights(pairs: tuple[list[nn.Module], list[nn.Module]]) -> list[str]:
    return [digest(model.state_dict()) for side in pairs for model in side]


def study() -> mv.Study:
    labels = (INPUTS[:, 0] > 0).long()
    return mv.Study(nn.Linear(4, 2).eval(), INPUTS, labels, {"clean": range(N)})


@pytest.mark.parametrize("small", [0, 10**7])
def test_dask_gives_the_same_and_an_error_of_the_fit_is_raised_as_it_is(
    dask: None, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memviz.training.subsets._cluster._SMALL", small)
    run = partial(train_subsets, study(), trainings=9, progress=False)
    spread = run(nearest)
    with joblib.parallel_config("sequential"):
        alone = run(nearest)
    assert torch.equal(spread.inside, alone.inside)
    assert torch.equal(spread.correct, alone.correct)

    def failing(*_: object) -> Tensor:
        raise KeyError("the user's own")

    with pytest.raises(KeyError, match="the user's own"):
        run(failing)


def test_pairs_differ_by_their_images_alone_and_more_can_follow(tmp_path: Path) -> None:
    draws = torch.get_rng_state()
    run = partial(train_pairs, encoder, FIT, IMAGES, subsets=SETS, progress=False)
    two = run(pairs=2, folder=tmp_path)
    assert torch.equal(draws, torch.get_rng_state())
    assert len(list(tmp_path.glob("*.safetensors"))) == 4
    three = run(pairs=3)
    assert weights(two) == [weights(three)[k] for k in (0, 1, 3, 4)]
    assert len(set(weights(three))) == 6
    assert not any(model.training for side in three for model in side)
    # The target's images are the same here, the reference's are not.
    same = Subsets(range(5), range(5, 8), (), range(8, 12))
    target, reference = (side[0] for side in run(subsets=same))
    assert digest(target.state_dict()) == weights(two)[0]
    assert digest(reference.state_dict()) != weights(two)[0]


def test_wrong_pairs_get_one_sentence(tmp_path: Path) -> None:
    run = partial(train_pairs, encoder, FIT, progress=False)
    with pytest.raises(ValueError, match="name image 11, and there are 9; count from 0"):
        run(IMAGES[:9], SETS)
    with pytest.raises(TypeError, match="make returned int; it must return an nn.Module"):
        train_pairs(lambda: 3, FIT, IMAGES, SETS, progress=False)
    run(IMAGES, SETS, folder=tmp_path)
    with pytest.raises(ValueError, match="holds trainings of another choice of examples"):
        run(IMAGES, SETS, seed=1, folder=tmp_path)

    def halved(encoder: nn.Module, images: Tensor, seed: int) -> None:
        encoder.bfloat16()

    with pytest.raises(ValueError, match=r"0\.weight is torch\.bfloat16; let fit leave"):
        train_pairs(encoder, halved, IMAGES, SETS, progress=False)
