"""The recorder as a callback of PyTorch Lightning."""

from __future__ import annotations

from typing import Any

from memviz.training.recorder import Recorder


def lightning_callback(recorder: Recorder) -> Any:
    """A Lightning callback that feeds a recorder: ``Trainer(callbacks=[lightning_callback(r)])``.

    The module's ``forward`` must give logits. Losses are those that ``training_step`` gives, rates
    those of the first optimizer. For statistics at the time of presentation call
    ``recorder.batch(ids, logits)`` in ``training_step``. With several processes the first records.

    Raises
    ------
    ModuleNotFoundError : neither ``lightning`` nor ``pytorch_lightning`` is installed.
    """
    try:
        from lightning.pytorch import Callback
    except ModuleNotFoundError:
        try:
            from pytorch_lightning import Callback  # type: ignore[assignment, unused-ignore]
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "PyTorch Lightning is not installed; run `pip install lightning`, or call "
                "recorder.epoch(model) once an epoch in your own loop."
            ) from error

    class RecorderCallback(Callback):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self.losses: list[float] = []
            self.rate = float("nan")

        def on_train_start(self, trainer: Any, module: Any) -> None:
            if trainer.is_global_zero:
                recorder.start(module)

        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            self.losses = []
            self.rate = float(trainer.optimizers[0].param_groups[0]["lr"])

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            if loss is not None:
                self.losses.append(float(loss))

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            if trainer.is_global_zero:
                mean = sum(self.losses) / len(self.losses) if self.losses else None
                recorder.epoch(module, loss=mean, learning_rate=self.rate)

    return RecorderCallback()
