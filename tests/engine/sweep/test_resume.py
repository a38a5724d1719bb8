"""A sweep's file: taken up to the same bits, and refused where it is another's or damaged."""

import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

import memviz as mv
from memviz import tensor_files
from memviz.engine.record import _passes as passes
from memviz.engine.sweep import Effects, sweep_stream
from memviz.engine.sweep import _checkpoint as checkpoint
from memviz.engine.sweep import _steps as steps_of

Steps = Iterator[float]
TABLES = ("margin", "loss", "margin_change", "loss_change", "correct", "done", "examples")


class Net(nn.Module):
    """A convolution and a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.head = nn.Conv2d(1, 4, 3), nn.Linear(64, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.fc(torch.relu(self.conv(x)).flatten(1))))


def study(seed: int = 0, n: int = 20) -> mv.Study:
    torch.manual_seed(seed)
    groups = {"memorized": range(5), "clean": range(5, n)}
    return mv.Study(Net().eval(), torch.randn(n, 1, 6, 6), torch.arange(n) % 3, groups)


@pytest.fixture(autouse=True)
def _unit_by_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """One unit a step, whatever the engine takes at once: counts can then be told beforehand."""
    monkeypatch.setattr("memviz.engine.sweep._steps._MOST", 1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sweep.safetensors"


def same(one: Effects, other: Effects) -> bool:
    return (one.units, one.how, one.engine) == (other.units, other.how, other.engine) and all(
        torch.equal(getattr(one, name).nan_to_num(9), getattr(other, name).nan_to_num(9))
        for name in TABLES
    )


def after(units: int) -> Callable[[], bool]:
    """Says stop when it was asked so often."""
    asked = iter(range(10_000))
    return lambda: next(asked) >= units


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("how", ["zero", "resample 3"])
def test_a_stopped_sweep_goes_on_to_the_same_bits(
    how: str, memory: int | None, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "chunk_size", lambda *_, **__: 7)
    monkeypatch.setattr(steps_of, "_SMALLEST", 2)
    monkeypatch.setattr(steps_of, "_LARGEST", 2)
    kinds = {"how": how, "memory": memory, "progress": False}
    wanted = mv.sweep(study(), **kinds)
    with pytest.raises(mv.CancelledError):
        mv.sweep(study(), path=file, stop=after(10), **kinds)
    kept = Effects.load(file, study())
    assert 2 <= kept.done.sum() < 8
    assert torch.equal(kept.margin_change[kept.done], wanted.margin_change[kept.done])
    found = mv.sweep(study(), path=file, **kinds)
    assert same(found, wanted) and same(Effects.load(file, study()), wanted)
    assert list(file.parent.iterdir()) == [file]


def test_what_is_done_is_not_done_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for effects in sweep_stream(study(), path=file):
        if effects.done.sum() == 4:
            break
    rows: list[int] = []
    put = Effects.put
    monkeypatch.setattr(
        Effects, "put", lambda e, r, *more: (rows.extend(np.atleast_1d(r)), put(e, r, *more))
    )
    mv.sweep(study(), path=file, progress=False)
    assert sorted(rows) == (~effects.done).nonzero()[:, 0].tolist()


def test_an_interrupted_sweep_is_kept_and_leaves_no_trace(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, put, calls = study(), Effects.put, iter(range(100))
    weights = {name: value.clone() for name, value in one.model.state_dict().items()}
    wanted = mv.sweep(study(), progress=False)

    def interrupted(*given: object) -> None:
        put(*given)
        if next(calls) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Effects, "put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            mv.sweep(one, path=file, progress=False)
    assert all(torch.equal(weights[n], v) for n, v in one.model.state_dict().items())
    assert all(not module._forward_hooks for module in one.model.modules())
    assert Effects.load(file, one).done.sum() == 5
    assert same(mv.sweep(one, path=file, progress=False), wanted)


def test_a_stream_left_early_keeps_its_estimates_too(file: Path) -> None:
    for effects in sweep_stream(study(), path=file):
        if effects.done.sum() == 4:
            break
    kept = Effects.load(file, study())
    assert same(kept, effects) and kept.exact.sum() == 4 and kept.estimated.sum() == 6
    more = mv.sweep(study(), path=file, top=6, progress=False)
    assert more.exact.sum() == 6 and (more.exact | ~kept.exact).all()
    assert torch.equal(more.margin_change[kept.exact], kept.margin_change[kept.exact])
    assert same(mv.sweep(study(), path=file, progress=False), mv.sweep(study(), progress=False))


def test_a_finished_file_is_read_and_nothing_is_run(file: Path) -> None:
    wanted = mv.sweep(study(), path=file, progress=False)
    written = file.stat().st_mtime_ns
    assert same(mv.sweep(study(), path=file, progress=False, stop=after(0)), wanted)
    assert file.stat().st_mtime_ns == written


def test_an_estimates_file_counts_as_nothing_exact(file: Path) -> None:
    first = mv.estimate(study())
    first.save(file)
    again = Effects.load(file, study())
    assert same(again, first) and again.engine == "estimate" and not again.exact.any()
    assert same(mv.sweep(study(), path=file, progress=False), mv.sweep(study(), progress=False))


def test_it_is_written_now_and_then(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_EVERY", -1.0)
    monkeypatch.setattr(checkpoint, "_SHARE", 0)
    counts = []
    for effects in sweep_stream(study(), path=file):
        counts.append((int(Effects.load(file, study()).done.sum()), int(effects.done.sum())))
    assert counts == [(k, k) for k in range(11)]


def test_no_more_than_a_share_of_the_time_is_spent_writing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, written = 0.0, []

    def clock() -> float:
        return now

    def write(*_: object) -> None:
        nonlocal now
        written.append(now)
        now += 4.0  # a large table on a slow disk

    monkeypatch.setattr(checkpoint.time, "monotonic", clock)
    monkeypatch.setattr(checkpoint, "write", write)
    effects = mv.estimate(study())
    effects.done[:] = False
    kept = checkpoint.Checkpoint(file, effects)
    for row in range(10):
        effects.done[row] = True
        for _ in range(30):
            now += 1.0
            kept.write_now_and_then()
    # Five minutes and a little; each waits 20 times the 4 s that the one before it took.
    assert len(written) == 4 and min(b - a for a, b in pairwise(written)) > 80


def changed(what: str) -> tuple[mv.Study, dict[str, object]]:
    one, more = study(), {}
    assert isinstance(one.inputs, Tensor)
    with torch.no_grad():
        if what == "weights":
            one.model.fc.weight[0, 0] += 1e-6
        elif what == "inputs":
            one.inputs[3, 0, 0, 0] += 1e-6
        elif what == "labels":
            one.labels[3] = (one.labels[3] + 1) % 3
        elif what == "task":
            one.task = OtherTask()
        else:
            more = {"units": {"units": "fc:0-3"}, "how": {"how": "mean"}}.get(
                what, {"examples": torch.arange(7)}
            )
    return one, more


class OtherTask(mv.Classification):
    """The same by another name."""


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("weights", "other weights than this study's model has"),
        ("inputs", "other inputs or labels than this study has"),
        ("labels", "other inputs or labels than this study has"),
        ("task", r"another task than this study has \(.*Classification, not .*OtherTask\)"),
        ("how", r"another intervention \(zero, not mean\)"),
        ("units", "other units"),
        ("examples", "other examples"),
    ],
)
def test_another_sweeps_file_is_refused(what: str, words: str, file: Path) -> None:
    mv.sweep(study(), path=file, progress=False)
    before = file.read_bytes()
    one, more = changed(what)
    with pytest.raises(ValueError, match=f"holds the effects of {words}; name another file, or"):
        mv.sweep(one, path=file, progress=False, **more)
    assert file.read_bytes() == before
    if more:
        Effects.load(file, one)  # it is this study's, whatever was swept of it
    else:
        with pytest.raises(ValueError, match=words):
            Effects.load(file, one)


def test_groups_do_not_matter(file: Path) -> None:
    mv.sweep(study(), path=file, progress=False)
    one = study()
    one.groups = {"all": torch.ones(20, dtype=torch.bool)}
    assert mv.sweep(one, path=file, progress=False, stop=after(0)).scores("all", "").top(1)


def test_the_same_weights_in_another_forward_pass(file: Path) -> None:
    mv.sweep(study(), path=file, progress=False)
    one = study()

    class Other(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.fc(torch.relu(self.conv(x)).flatten(1))))

    one.model.__class__ = Other
    with pytest.raises(ValueError, match="of a model with the same weights but other outputs"):
        mv.sweep(one, path=file, progress=False)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip(content: bytes) -> bytes:
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "can't be read as effects"),
        (flip, "was altered after it was written"),
        (lambda content: content.replace(b'"zero"', b'"mean"'), "was altered after"),
        (lambda _: b"", "can't be read as effects"),
        (lambda _: b"margin,loss\n1,2\n", "can't be read as effects"),
    ],
)
def test_a_damaged_file(damage: Callable[[bytes], bytes], words: str, file: Path) -> None:
    mv.sweep(study(), path=file, progress=False)
    file.write_bytes(damage(file.read_bytes()))
    for use in (
        lambda: mv.sweep(study(), path=file, progress=False),
        lambda: Effects.load(file, study()),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            use()
        assert str(file) in str(caught.value) and "another file" in str(caught.value)


@pytest.mark.parametrize(
    "forge",
    [
        lambda tensors, facts: tensors.pop("done"),
        lambda tensors, facts: tensors.update(done=tensors["done"][1:]),
        lambda tensors, facts: tensors.update(loss_change=tensors["loss_change"].T),
        lambda tensors, facts: facts.pop("units"),
        lambda tensors, facts: facts.pop("how"),
        lambda tensors, facts: facts.pop("engine"),
        lambda tensors, facts: facts.update(units="[" * 100_000),
        lambda tensors, facts: facts.update(units="{}"),
        lambda tensors, facts: facts.update(units='[["fc"]]'),
    ],
)
def test_a_forged_file(
    forge: Callable[[dict[str, Tensor], dict[str, str]], object], file: Path
) -> None:
    mv.sweep(study(), path=file, progress=False)
    tensors, facts = tensor_files.read(file)
    del facts["sha256"]
    forge(tensors, facts)
    sha = tensor_files.digest(tensors, facts)
    tensor_files.write(file, {k: v.clone() for k, v in tensors.items()}, {**facts, "sha256": sha})
    for use in (
        lambda: mv.sweep(study(), path=file, progress=False),
        lambda: Effects.load(file, study()),
    ):
        with pytest.raises(ValueError, match="lacks part of what a file of effects holds"):
            use()


def test_what_is_no_file(file: Path) -> None:
    effects = mv.sweep(study(), "fc:0", progress=False)
    os.mkfifo(file)
    for path, words in {
        file: "a pipe",
        file.parent: "a folder",
        Path("/dev/null"): "a device",
    }.items():
        for use in (
            lambda path=path: mv.sweep(study(), path=path, progress=False),
            lambda path=path: Effects.load(path, study()),
            lambda path=path: effects.save(path),
        ):
            with pytest.raises(ValueError, match=f"is {words}, not a file; name a file"):
                use()


def test_no_file_of_effects_and_no_folder(file: Path) -> None:
    save_file({"weight": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="is not a file of effects; name one that effects.save or"):
        mv.sweep(study(), path=file, progress=False)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Effects.load(file.with_name("nothing.safetensors"), study())
    runs: list[int] = []
    with pytest.raises(FileNotFoundError, match="there is no folder .* make it first"):
        mv.sweep(
            study(),
            path=file.parent / "none" / "a.safetensors",
            progress=False,
            stop=lambda: bool(runs.append(1)),
        )
    assert not runs  # told before the work, not after


def test_a_writing_that_fails_leaves_the_old_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    effects = mv.sweep(study(), path=file, progress=False)
    before = file.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(tensor_files, "save_file", fail)
        with pytest.raises(OSError, match="disk full"):
            effects.save(file)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            effects.save(file)
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


@settings(max_examples=25, deadline=None)
@given(
    name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12),
    values=st.lists(st.floats(width=32), min_size=6, max_size=6),
    done=st.lists(st.booleans(), min_size=2, max_size=2),
)
def test_what_is_saved_is_what_is_loaded(
    name: str, values: list[float], done: list[bool], tmp_path_factory: pytest.TempPathFactory
) -> None:
    one = study(n=6)
    units, examples = (mv.Unit(name, 5), mv.Unit("fc", 0)), torch.tensor([4, 0, 5])
    effects = Effects.empty(one, units, examples, "zero", "hook", torch.zeros(3, 3))
    table = torch.tensor(values).view(2, 3)
    effects.margin_change, effects.loss_change, effects.correct = table, -table, table > 0
    effects.done = torch.tensor(done)
    file = tmp_path_factory.mktemp("effects") / "effects.safetensors"
    effects.save(file)
    again = Effects.load(file, one)
    assert same(again, effects) and again.engine == "hook" and again.study is one
    assert torch.equal(again.margin_change.isnan(), table.isnan())
