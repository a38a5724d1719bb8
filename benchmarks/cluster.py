"""Trainings on a Dask cluster of two workers, one of which is killed: the table of one process.

    python -m benchmarks cluster --json

Feldman-Zhang, K-fold density and pairs of encoders are trained in this process, on a cluster of two
processes, and once more while one training, on its way, ends its worker with SIGKILL. Each training
that begins leaves a file, so that repeated ones are counted; the fatal one waits until this process
has what was finished before:

- ``identical``, ``identical_after_kill``: the tables are bitwise those of one process
- ``trainings``; ``begun`` and ``begun_after_kill``, in the cluster
- ``seconds``, ``seconds_in_cluster``, ``seconds_with_kill``, of the wall clock
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import torch
from torch import nn

import memviz as mv
from benchmarks.report import about, parser, show, significant
from benchmarks.timing import one_thread
from memviz.data.augmentations import ShiftAndNoise
from memviz.data.subsets import four_subsets
from memviz.demos import digits
from memviz.models.mlp import MLP
from memviz.models.vae import MLPVAE, binarized
from memviz.probes.density import cross_fit
from memviz.probes.encoders import layer_mem
from memviz.probes.examples import subsampled_memorization
from memviz.tensor_files import digest
from memviz.training.density import VAERecipe
from memviz.training.self_supervised import train_simclr
from memviz.training.subsets import Recipe, train_pairs, train_subsets

WAIT = 60.0  # seconds for what is finished to reach this process, and for a worker to come back


@dataclass(frozen=True)
class Counted:
    """A fit that leaves a file when it begins, and may end its own process, once.

    Attributes
    ----------
    fit : callable
    folder : str
        Of the files.
    fatal : int
        The training, as many as have begun before it, that kills its worker; -1 for none.
    parent : int
        The process that is never killed.
    """

    fit: Callable[..., Any]
    folder: str
    fatal: int
    parent: int

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Train; or be killed on the way."""
        files = Path(self.folder)
        before, name = _count(files, "begun"), uuid.uuid4().hex
        (files / f"{name}.begun").touch()
        if before >= self.fatal >= 0 and os.getpid() != self.parent and _first(files / "killed"):
            _until(lambda: _count(files / "kept", "safetensors") >= _count(files, "ended"))
            os.kill(os.getpid(), signal.SIGKILL)
        result = self.fit(*arguments, **keywords)
        (files / f"{name}.ended").touch()
        return result


def _count(folder: Path, ending: str) -> int:
    return len(list(folder.glob(f"*.{ending}")))


def _first(file: Path) -> bool:
    """Whether this process is the one that makes the file; of two at once, one is."""
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _until(test: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT
    while not test() and time.monotonic() < end:
        time.sleep(0.05)


def feldman_zhang(
    wrap: Callable[[Any], Any], trainings: int, folder: Path | None = None
) -> dict[str, torch.Tensor]:
    """Memorization of 300 digits, from trainings on random subsets."""
    data = digits.examples(0)
    inputs, labels = data.inputs[:300].flatten(1), data.labels[:300]
    study = mv.Study(MLP((64, 32, 10)).eval(), inputs, labels, {"clean": range(300)})
    fit = wrap(Recipe(partial(MLP, (64, 32, 10)), epochs=10))
    found = train_subsets(study, fit, trainings=trainings, folder=folder, progress=False)
    scores = subsampled_memorization(found, null_draws=2)
    values = torch.from_numpy(scores.values)
    return {"inside": found.inside, "correct": found.correct, "memorization": values}


def density(
    wrap: Callable[[Any], Any], trainings: int, folder: Path | None = None
) -> dict[str, torch.Tensor]:
    """M of 300 digits, from variational autoencoders trained without each fold."""
    data = digits.examples(0)
    images = binarized(data.inputs[:300].flatten(1), seed=0)
    fit = wrap(VAERecipe(partial(MLPVAE, 64, (32,), 4), epochs=(5, 10), samples=32))
    found = cross_fit(images, fit, folds=trainings, repeats=1, folder=folder, progress=False)
    scores = found.memorization()
    return {"log_p": found.log_p, "memorization": torch.from_numpy(scores.values)}


def _encoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()
    )


def encoder_pairs(
    wrap: Callable[[Any], Any], trainings: int, folder: Path | None = None
) -> dict[str, torch.Tensor]:
    """LayerMem of pairs of SimCLR encoders."""
    data = digits.examples(0)
    images, augment = data.inputs[:200], ShiftAndNoise(1, 0.1)
    subsets = four_subsets(200, 60, 30, 30, 60)
    fit = wrap(partial(train_simclr, augment=augment, epochs=10, batch_size=30, progress=False))
    made = train_pairs(
        _encoder, fit, images, subsets, pairs=trainings // 2, folder=folder, progress=False
    )
    found = layer_mem(*made, images, augment, subsets, augmentations=2, progress=False)
    return {name: torch.from_numpy(values) for name, values in found.values.items()}


TABLES = {"feldman_zhang": feldman_zhang, "density": density, "encoder_pairs": encoder_pairs}


@contextmanager
def two_workers() -> Iterator[Any]:
    """Joblib's work goes to a cluster of two processes, which ends with the block."""
    import distributed

    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        yield client


def measure(*, trainings: int = 12, only: Sequence[str] = tuple(TABLES)) -> dict[str, Any]:
    """All tables three times: alone, in the cluster, and with a worker killed.

    Parameters
    ----------
    trainings : int
        Of each table; an even number.
    only : names of ``TABLES``.
    """
    alone: dict[str, tuple[str, float]] = {}
    result: dict[str, Any] = {"benchmark": "cluster", "trainings": trainings, "workers": 2}
    with one_thread():
        for name in only:
            began = time.monotonic()
            alone[name] = digest(TABLES[name](lambda fit: fit, trainings)), time.monotonic() - began
        with two_workers() as client, tempfile.TemporaryDirectory() as folder:
            result |= {name: {"seconds": significant(alone[name][1])} for name in only}
            for fatal, after in ((-1, ""), (trainings // 2, "_after_kill")):
                for name in only:
                    client.wait_for_workers(2, timeout=10 * WAIT)
                    files = Path(folder, f"{name}{after}")
                    files.mkdir()
                    wrap = partial(Counted, folder=str(files), fatal=fatal, parent=os.getpid())
                    began = time.monotonic()
                    found = digest(TABLES[name](wrap, trainings, files / "kept"))
                    seconds = "seconds_with_kill" if after else "seconds_in_cluster"
                    result[name] |= {
                        seconds: significant(time.monotonic() - began),
                        f"identical{after}": found == alone[name][0],
                        f"begun{after}": _count(files, "begun"),
                        **({"killed": int((files / "killed").exists())} if after else {}),
                    }
    return {**result, "about": about()}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    arguments = parser("cluster", __doc__)
    arguments.add_argument("--trainings", type=int, default=12, help="of each table, an even count")
    arguments.add_argument("--only", nargs="+", choices=list(TABLES), default=list(TABLES))
    chosen = arguments.parse_args(argv)
    show(measure(trainings=chosen.trainings, only=chosen.only), as_json=chosen.json)


if __name__ == "__main__":
    main()
