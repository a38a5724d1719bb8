"""Trainings interrupted at any moment, and trainings that can't be written: nothing is lost."""

import signal
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

import memviz.tensor_files as tensor_files
from benchmarks.interrupted import INPUTS, LABELS, OPERATIONS, SETTINGS, N, network
from benchmarks.interrupts import measure
from memviz.tensor_files import NotWritten, digest
from memviz.training.epochs import HeldBack, check_seed
from memviz.training.loop import train

TRAININGS = [name for name in OPERATIONS if name not in ("train_subsets", "sweep")]


# An interrupt may land between open() and the block that closes the file: its finalizer closes it.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("name", OPERATIONS)
def test_at_random_moments_state_and_file_agree_and_the_end_is_the_same(name: str):
    found = measure(interrupts=8, seed=5, only=[name])
    assert found["interrupts"][name] >= 8 and found["messages"] == []
    for count in ("disagreements", "different_results", "gradients_off", "draws_changed", "errors"):
        assert found[count] == {name: 0}


def uninterrupted(name: str, folder: Path):
    operation = OPERATIONS[name]()
    return digest(operation.run(folder)), operation.state()


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("epoch", [1, 4])
def test_an_interrupt_beside_the_renaming_of_the_file(
    name: str, after: bool, epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected = uninterrupted(name, tmp_path / "whole")
    operation, folder = OPERATIONS[name](), tmp_path / "stopped"
    start, replace, written = operation.state(), tensor_files.os.replace, []

    def interrupted(part: Path, path: Path) -> None:
        stop = path.name == operation.file and len(written) == epoch - 1
        if stop and not after:
            raise KeyboardInterrupt
        replace(part, path)
        if path.name == operation.file:
            written.append(path)
        if stop:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tensor_files.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            operation.run(folder)
    assert operation.agrees(folder, {}, start) and len(written) == epoch - 1 + after
    assert (digest(operation.run(folder)), operation.state()) == expected


def test_a_second_interrupt_waits_until_the_model_is_whole(tmp_path: Path):
    expected = uninterrupted("train", tmp_path / "whole")
    operation, folder = OPERATIONS["train"](), tmp_path / "stopped"
    model, load = operation.modules["model"], operation.modules["model"].load_state_dict
    kept = {}

    def interrupted(state: dict) -> None:
        signal.raise_signal(signal.SIGINT)
        kept["whole"] = load(state)

    def stop(epoch: int, model: nn.Module) -> None:
        if epoch == 3:
            model.load_state_dict = interrupted
            raise RuntimeError("the first one")

    def run(**more: object):
        return train(model, INPUTS, LABELS, loss=operation.modules["loss"], folder=folder,
                     checkpoint_epochs=(0, 3), **SETTINGS, **more)  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        run(on_epoch=stop)
    del model.load_state_dict
    assert "whole" in kept and operation.agrees(folder, {}, {})
    run()
    assert operation.state() == expected[1]


def test_held_back_signals_are_handled_at_the_end_and_handlers_put_back():
    seen: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append("first"))
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with HeldBack(), HeldBack():
            signal.raise_signal(signal.SIGUSR1)
            assert seen == []
        assert seen == ["first"]
        with pytest.raises(KeyboardInterrupt), HeldBack():
            signal.raise_signal(signal.SIGINT)
            seen.append("second")
        assert seen == ["first", "second"]
        assert signal.getsignal(signal.SIGINT) is interrupt
        with pytest.raises(ValueError, match="as ever"), HeldBack():
            raise ValueError("as ever")
        thread = threading.Thread(target=lambda: HeldBack().__enter__())
        thread.start()
        thread.join()
        assert signal.getsignal(signal.SIGINT) is interrupt
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_epochs_that_can_not_be_written_are_said_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    expected, model = uninterrupted("train", tmp_path / "whole"), network()
    whole = train(model, INPUTS, LABELS, **SETTINGS, folder=tmp_path / "kept")
    save, again = tensor_files.save_file, network()

    def full(*arguments: object, **more: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    def fill(epoch: int, model: nn.Module, stop: int = 99) -> None:
        if epoch == 3:
            monkeypatch.setattr(tensor_files, "save_file", full)
        if epoch == stop:
            raise KeyboardInterrupt

    folder = tmp_path / "full"
    with pytest.warns(UserWarning, match=r"Epoch 3 could not be kept .*No space left") as said:
        run = train(again, INPUTS, LABELS, **SETTINGS, folder=folder, on_epoch=fill)
    assert len(said) == 1 and torch.equal(run.losses, whole.losses)
    assert digest(again.state_dict()) == digest(model.state_dict())

    monkeypatch.setattr(tensor_files, "save_file", save)
    stopped, folder = network(), tmp_path / "stopped"
    with pytest.warns(UserWarning, match="goes back to epoch 2"), pytest.raises(KeyboardInterrupt):
        train(stopped, INPUTS, LABELS, **SETTINGS, folder=folder, on_epoch=partial(fill, stop=5))
    monkeypatch.setattr(tensor_files, "save_file", save)
    train(stopped, INPUTS, LABELS, **SETTINGS, folder=folder)
    assert digest(stopped.state_dict()) == digest(model.state_dict())
    assert expected


@pytest.mark.parametrize("name", TRAININGS)
def test_a_folder_that_can_not_be_written_is_refused_before_the_training(name: str, tmp_path: Path):
    (tmp_path / "file").write_text("where the folder should be")
    operation = OPERATIONS[name]()
    before = operation.state()
    with pytest.raises(NotWritten, match="can't be written: "):
        operation.run(tmp_path / "file")
    assert operation.state() == before


@pytest.mark.parametrize(("name", "epoch"), [("train", 3), ("train_contrastive", 2)])
def test_a_checkpoint_that_is_gone_is_named(name: str, epoch: int, tmp_path: Path):
    uninterrupted(name, tmp_path)
    (tmp_path / f"epoch-{epoch:04d}.safetensors").unlink()
    operation = OPERATIONS[name]()
    before = operation.state()
    with pytest.raises(ValueError, match=f"checkpoint of epoch {epoch} is missing: .*put it back"):
        operation.run(tmp_path)
    assert operation.state() == before


@pytest.mark.parametrize("seed", [2**63, -1, 1.5, "a", None, True, torch.ones(2)])
def test_a_seed_that_is_none_gets_one_sentence(seed: object):
    with pytest.raises(ValueError, match="seed must be a whole number from 0 to 2"):
        check_seed(seed)


def test_seeds_of_numpy_and_torch_are_taken(tmp_path: Path):
    settings = {**SETTINGS, "epochs": 1}
    runs = [
        train(network(), INPUTS, LABELS, **{**settings, "seed": seed}, folder=tmp_path / str(place))
        for place, seed in enumerate((3, torch.tensor(3).numpy()[()]))
    ]
    assert torch.equal(runs[0].losses, runs[1].losses) and len(LABELS) == N
