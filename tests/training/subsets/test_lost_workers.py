"""Workers that are killed, disks that fill up, long runs in memory: trainings are made again."""

import os
import signal
import time
from concurrent.futures import BrokenExecutor
from functools import partial
from pathlib import Path

import joblib
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.tensor_files import NotWritten
from memviz.training.subsets import SubsetTrainings, train_subsets

N, TRAININGS = 200, 6
TRAININGS_MODULE = "memviz.training.subsets._spread"


def nearest(inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
    return labels[chosen][torch.cdist(inputs, inputs[chosen]).argmin(1)]


def killed_once(
    inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int, marker: str, parent: int
) -> Tensor:
    """Kills its own worker, once, when others may be finished."""
    time.sleep(0.05)
    if seed % 3 == 0 and os.getpid() != parent and not Path(marker).exists():
        Path(marker).write_text("killed")
        os.kill(os.getpid(), signal.SIGKILL)
    return nearest(inputs, labels, chosen, seed)


@pytest.fixture
def study() -> mv.Study:
    inputs = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
    groups = {"clean": range(150), "test": range(150, N)}
    return mv.Study(nn.Linear(4, 2).eval(), inputs, (inputs[:, 0] > 0).long(), groups)


def same(one: SubsetTrainings, other: SubsetTrainings) -> bool:
    return torch.equal(one.inside, other.inside) and torch.equal(one.correct, other.correct)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [False, True])
def test_a_killed_dask_worker_costs_only_what_was_in_flight(
    study: mv.Study, tmp_path: Path, kept: bool
):
    distributed = pytest.importorskip("distributed")
    alone = train_subsets(study, nearest, trainings=12, progress=False)
    fit = partial(killed_once, marker=str(tmp_path / "marker"), parent=os.getpid())
    folder = tmp_path / "kept" if kept else None
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        with distributed.Client(cluster), joblib.parallel_config("dask"):
            spread = train_subsets(study, fit, trainings=12, folder=folder, progress=False)
    assert (tmp_path / "marker").exists() and same(alone, spread)


def test_trainings_of_a_lost_worker_are_made_again_and_in_vain_it_ends(
    study: mv.Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run = partial(train_subsets, study, nearest, trainings=TRAININGS)
    alone = run(progress=False)
    real, asked = __import__(TRAININGS_MODULE, fromlist=["x"])._results, []

    def losing(fit, arrays, tasks, missing, jobs, finished=2):
        asked.append(list(missing))
        for place, result in enumerate(real(fit, arrays, tasks, missing, jobs)):
            if place == finished:
                raise BrokenExecutor("a worker was killed")
            yield result

    monkeypatch.setattr(f"{TRAININGS_MODULE}._results", losing)
    assert same(alone, run()) and asked == [[0, 1, 2, 3, 4, 5], [2, 3, 4, 5], [4, 5]]
    assert "A worker was lost; 4 trainings are left" in capsys.readouterr().err
    asked.clear()
    monkeypatch.setattr(f"{TRAININGS_MODULE}._results", partial(losing, finished=0))
    with pytest.raises(BrokenExecutor) as ended:
        run(progress=False)
    assert len(asked) == 3 and "0 of 6" in ended.value.__notes__[0]


def test_a_long_run_in_memory_is_told_so(study: mv.Study, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(f"{TRAININGS_MODULE}._LONG", 0.0)
    with pytest.warns(UserWarning, match=r"5 trainings are left, .* without folder= all are lost"):
        train_subsets(study, nearest, trainings=TRAININGS, progress=False)


def test_a_folder_that_fills_up_is_told_once_and_one_that_is_none_at_once(
    study: mv.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = partial(train_subsets, study, nearest, trainings=TRAININGS, progress=False)
    alone = run()

    def full(path: Path, *content: object) -> None:
        raise NotWritten(f"{str(path)!r} can't be written: No space left on device")

    monkeypatch.setattr("memviz.training.subsets._folder.write_hashed", full)
    with pytest.warns(UserWarning, match="Training 0 could not be kept .*No space left") as said:
        assert same(alone, run(folder=tmp_path))
    assert len(said) == 1
    (tmp_path / "file").write_text("where the folder should be")
    with pytest.raises(NotWritten, match="can't be written: "):
        run(folder=tmp_path / "file")
