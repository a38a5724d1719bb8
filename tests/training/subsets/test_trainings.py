"""Subset trainings: drawn as said, kept when finished, found again, refused if of another kind."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import joblib
import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.models.mlp import MLP
from memviz.training.subsets import (
    Recipe,
    SubsetTrainings,
    fingerprint,
    second_split,
    train_subsets,
)

CALLS: list[int] = []


def counted(inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
    CALLS.append(seed)
    return labels[chosen][torch.cdist(inputs, inputs[chosen]).argmin(1)]


def stopped(inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
    return counted(inputs, labels, chosen, seed)


@pytest.fixture
def study() -> mv.Study:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 3, generator=generator)
    labels = (inputs[:, 0] > 0).long()
    groups = {"memorized": range(4), "clean": range(4, 30), "test": range(30, 40)}
    CALLS.clear()
    return mv.Study(nn.Linear(3, 2).eval(), inputs, labels, groups)


def same(one: SubsetTrainings, other: SubsetTrainings) -> bool:
    return torch.equal(one.inside, other.inside) and torch.equal(one.correct, other.correct)


def test_subsets_are_as_large_as_said_and_never_hold_a_test_example(study: mv.Study) -> None:
    trainings = train_subsets(study, counted, trainings=30, fraction=0.7, progress=False)
    assert trainings.examples.tolist() == list(range(30))
    assert (trainings.inside.sum(1) == 21).all()
    assert trainings.correct.shape == (30, 40)
    assert trainings.correct_inside[trainings.inside].all()  # 1-NN is right on what it was given
    assert len(set(CALLS)) == 30
    shares = trainings.inside.float().mean(0)
    assert (shares - 0.7).abs().max() < 4 * (0.7 * 0.3 / 30) ** 0.5
    again = train_subsets(study, counted, trainings=10, fraction=0.7, progress=False)
    assert torch.equal(again.inside, trainings.inside[:10])
    other = train_subsets(study, counted, trainings=10, fraction=0.7, seed=1, progress=False)
    assert not torch.equal(again.inside, other.inside)


def test_an_interrupt_loses_nothing_that_was_finished(
    study: mv.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_subsets(study, stopped, trainings=8, progress=False)
    CALLS.clear()

    def interrupting(*arguments: Tensor, **more: int) -> Tensor:
        if len(CALLS) == 5:
            raise KeyboardInterrupt
        return original(*arguments, **more)

    original = counted
    monkeypatch.setitem(stopped.__globals__, "counted", interrupting)
    with pytest.raises(KeyboardInterrupt):
        train_subsets(study, stopped, trainings=8, folder=tmp_path, progress=False)
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 5
    CALLS.clear()
    resumed = train_subsets(study, stopped, trainings=8, folder=tmp_path, progress=False)
    assert len(CALLS) == 3
    assert same(resumed, whole)
    CALLS.clear()
    more = train_subsets(study, stopped, trainings=10, folder=tmp_path, progress=False)
    assert len(CALLS) == 2
    assert torch.equal(more.inside[:8], whole.inside)
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".safetensors"]


def test_a_damaged_file_is_trained_again(study: mv.Study, tmp_path: Path) -> None:
    first = train_subsets(study, stopped, trainings=4, folder=tmp_path, progress=False)
    path = sorted(tmp_path.iterdir())[2]
    path.write_bytes(path.read_bytes()[:-3])
    CALLS.clear()
    with pytest.warns(UserWarning, match="000002.*It is trained again"):
        again = train_subsets(study, stopped, trainings=4, folder=tmp_path, progress=False)
    assert len(CALLS) == 1
    assert same(first, again)


def test_a_folder_of_other_trainings_is_refused(study: mv.Study, tmp_path: Path) -> None:
    run = partial(train_subsets, trainings=2, folder=tmp_path, progress=False)
    before = run(study, stopped)
    with pytest.raises(ValueError, match="holds trainings of another recipe"):
        run(study, counted)
    with pytest.raises(ValueError, match="holds trainings of another recipe"):
        run(study, partial(stopped))
    with pytest.raises(ValueError, match="another choice of examples, fraction or seed"):
        run(study, stopped, seed=1)
    with pytest.raises(ValueError, match="another choice of examples"):
        run(study, stopped, examples=torch.arange(20))
    study.labels[0] = 1 - study.labels[0]
    with pytest.raises(ValueError, match="holds trainings of other inputs or labels"):
        run(study, stopped)
    study.labels[0] = 1 - study.labels[0]
    CALLS.clear()
    assert same(run(study, stopped), before)
    assert CALLS == []


def _made(width: int, table: Tensor) -> Callable[..., int]:
    def inner(x: int = 3) -> int:
        return width + x + int(table[0])

    return inner


def test_fingerprints_see_settings_closures_and_tensors() -> None:
    class Odd:
        pass

    recipes = [
        Recipe(partial(MLP, (4, 8, 2))),
        Recipe(partial(MLP, (4, 9, 2))),
        Recipe(partial(MLP, (4, 8, 2)), epochs=51),
        Recipe(partial(MLP, (4, 8, 2)), learning_rate=0.2),
        stopped,
        _made(1, torch.zeros(2)),
        _made(2, torch.zeros(2)),
        _made(1, torch.ones(2)),
        nn.Linear,
    ]
    assert len({fingerprint(recipe) for recipe in recipes}) == len(recipes)
    assert fingerprint(Recipe(partial(MLP, (4, 8, 2)))) == fingerprint(recipes[0])
    assert fingerprint(_made(1, torch.zeros(2))) == fingerprint(recipes[5])
    with pytest.raises(ValueError, match="a Odd can't be told apart"):
        fingerprint(Odd())


def test_a_function_without_source_is_known_by_its_code() -> None:
    spaces: list[dict[str, Callable[[], int]]] = [{}, {}, {}]
    for space, number in zip(spaces, (1, 2, 1), strict=True):
        exec(f"def f(): return {number}", space)
    one, two, like_one = (fingerprint(space["f"]) for space in spaces)
    assert one == like_one != two


FIT = """
from torch import nn

{comment}
class Net(nn.Module):
    {docstring}
    def __init__(self, hidden):
        super().__init__()
        self.fc, self.head = nn.Linear(3, hidden), nn.Linear(hidden, {classes})

    def forward(self, x):
        {docstring}
        return self.head(self.fc(x).{nonlinearity}())

def make({argument}, sizes=frozenset(["a", "b", "c"])):
    {docstring}
    {comment}
    return Net({argument}) if "a" in {{"a", "b", "c"}} else None
"""


def written(folder: Path, module: str, **changes: object) -> dict[str, Callable]:
    """The functions of a file that stands somewhere, is laid out somehow and does something."""
    usual = {"docstring": "", "comment": "", "argument": "hidden"}
    text = FIT.format(**{**usual, "classes": 2, "nonlinearity": "relu", **changes})
    path = folder / f"{module}.py"
    path.write_text(text)
    space: dict[str, Callable] = {"__name__": module}  # type: ignore[dict-item]
    exec(compile(text, str(path), "exec"), space)
    return space


def test_a_recipe_is_not_known_by_where_it_stands_or_how_it_is_written(tmp_path: Path) -> None:
    first = written(tmp_path, "first")
    moved = {"docstring": '"""Another text."""', "comment": "# Said otherwise.", "argument": "n"}
    other = written(tmp_path, "elsewhere", **moved)
    for recipe in (
        lambda space: partial(space["make"], 4),
        lambda space: space["Net"],
        lambda space: Recipe(partial(space["make"], 4)),
        lambda space: Recipe(partial(space["Net"], 4)),
    ):
        assert fingerprint(recipe(first)) == fingerprint(recipe(other))


def test_a_recipe_is_known_by_the_network_that_it_makes(tmp_path: Path) -> None:
    spaces = [
        written(tmp_path, "usual"),
        written(tmp_path, "wider", classes=3),
        written(tmp_path, "smoother", nonlinearity="tanh"),
    ]
    before = torch.get_rng_state()
    # The same text in all three; what it makes differs.
    made = [fingerprint(Recipe(partial(space["make"], 4))) for space in spaces]
    classes = [fingerprint(Recipe(partial(space["Net"], 4))) for space in spaces]
    drops = [Recipe(partial(nn.Sequential, nn.Dropout(p))) for p in (0.1, 0.2)]
    assert len({*made, *classes}) == 6
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ValueError, match="a Dropout can't be told apart"):
        fingerprint(drops[0])


class Shorter(Recipe):
    """A recipe with a fit of its own."""

    def fit(self, *arguments: object, **more: object) -> None:
        super().fit(*arguments, **{**more, "epochs": 1})  # type: ignore[arg-type]


def test_a_recipe_of_ones_own_is_another(study: mv.Study) -> None:
    one, other = (kind(partial(MLP, (3, 8, 2))) for kind in (Recipe, Shorter))
    assert fingerprint(one) != fingerprint(other)


def test_another_python_is_named_where_the_recipe_differs(
    study: mv.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = partial(train_subsets, trainings=2, folder=tmp_path, progress=False)
    run(study, stopped)
    monkeypatch.setattr("memviz.training.subsets._folder._PYTHON", "2.7")
    with pytest.raises(ValueError, match=r"another recipe, or of the same one under Python \d"):
        run(study, counted)
    run(study, stopped)


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_other_processes_give_the_same(study: mv.Study, backend: str, tmp_path: Path) -> None:
    recipe = Recipe(partial(MLP, (3, 8, 2)), epochs=3)
    alone = train_subsets(study, recipe, trainings=3, progress=False)
    with joblib.parallel_config(backend, n_jobs=2):
        spread = train_subsets(study, recipe, trainings=3, folder=tmp_path, progress=False)
    assert same(alone, spread)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same(study: mv.Study) -> None:
    distributed = pytest.importorskip("distributed")
    recipe = Recipe(partial(MLP, (3, 8, 2)), epochs=3)
    alone = train_subsets(study, recipe, trainings=3, progress=False)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        with distributed.Client(cluster), joblib.parallel_config("dask"):
            assert same(alone, train_subsets(study, recipe, trainings=3, progress=False))


def test_trainings_are_read_back_from_one_file(study: mv.Study, tmp_path: Path) -> None:
    some = torch.tensor([3, 5, 6, 9, 20, 21, 28])
    trainings = train_subsets(study, counted, examples=some, trainings=5, progress=False)
    trainings.save(tmp_path / "all.safetensors")
    again = SubsetTrainings.load(tmp_path / "all.safetensors")
    assert same(trainings, again)
    assert torch.equal(again.examples, some)
    assert repr(again) == "SubsetTrainings(5 on 5 of 7 examples each)"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        SubsetTrainings.load(tmp_path / "none")


def test_the_recipe_leaves_no_trace_and_repeats_itself(study: mv.Study) -> None:
    def unseeded() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))

    before, state = torch.get_rng_state(), [p.clone() for p in study.model.parameters()]
    inputs, some = study.inputs.clone(), torch.arange(20)
    recipe = Recipe(unseeded, epochs=40, learning_rate=0.3)
    labels = study.labels.clone()
    labels[20:] = 0  # not trained on
    one, two = (recipe(study.inputs, labels, some, seed) for seed in (0, 0))
    assert torch.equal(one, two)
    short = Recipe(unseeded, epochs=1, learning_rate=1e-6)
    first, other = (short(study.inputs, labels, some, seed) for seed in (0, 1))
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(inputs, study.inputs)
    assert all(map(torch.equal, state, study.model.parameters()))
    assert (one == study.labels)[:20].float().mean() > 0.9


def test_second_split_asks_each_half_while_the_other_is_trained_on(study: mv.Study) -> None:
    recipe = Recipe(partial(MLP, (3, 32, 2)), epochs=60, learning_rate=0.2, batch_size=8)
    labels = study.labels.clone()
    labels[:4] = 1 - labels[:4]
    labels = labels[:30]
    before = torch.get_rng_state()
    correct = second_split(recipe, study.inputs[:30], labels, epochs=30)
    assert correct.shape == (30, 30)
    assert torch.equal(before, torch.get_rng_state())
    # Wrong labels that the first half had are overruled by what the second half says.
    assert correct[-1, 4:].float().mean() > correct[-1, :4].float().mean() + 0.5
    assert torch.equal(correct, second_split(recipe, study.inputs[:30], labels, epochs=30))
    with pytest.raises(ValueError, match="1 example can't be split"):
        second_split(recipe, study.inputs[:1], labels[:1], epochs=2)
    with pytest.raises(ValueError, match=r"got torch.int64 of shape \[29\] for 30 inputs"):
        second_split(recipe, study.inputs[:30], labels[:29], epochs=2)
    with pytest.raises(ValueError, match="network can't be called with torch.float64.*; give what"):
        second_split(recipe, study.inputs[:30].double(), labels, epochs=2)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"fraction": 0.0}, "fraction is 0.0 of 30 examples"),
        ({"fraction": 1.0}, "fraction is 1.0 of 30 examples"),
        ({"fraction": 0.01}, "must have at least one"),
        ({"fraction": float("-inf")}, "must be a finite number|fraction is -inf"),
        ({"jobs": 0}, "jobs is 0; give a number of processes"),
        ({"jobs": 10**7}, "up to 1,000"),
        ({"fit": lambda *_: None}, "fit returned NoneType"),
        ({"folder": "a\0b"}, "no folder can be called"),
        ({"trainings": 1}, "make at least 2"),
        ({"examples": torch.tensor([1, 1, 2])}, "names an example twice"),
        ({"examples": torch.tensor([1, 99])}, "examples names 99"),
    ],
)
def test_bad_settings_get_one_sentence(study: mv.Study, changed: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        train_subsets(study, **{"fit": counted, "progress": False, **changed})


def test_predictions_that_do_not_fit_get_one_sentence(study: mv.Study) -> None:
    def logits(inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
        return torch.zeros(len(labels), 2)

    def few(inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
        return labels[chosen]

    for fit in (logits, few):
        with pytest.raises(ValueError, match="must return the predicted class of every input"):
            train_subsets(study, fit, trainings=2, progress=False)
    only_test = mv.Study(study.model, study.inputs, study.labels, {"test": range(40)})
    with pytest.raises(ValueError, match="no group but test"):
        train_subsets(only_test, counted, progress=False)
    with pytest.raises(ValueError, match="one tensor"):
        Recipe(nn.Identity)({"x": study.inputs}, study.labels, torch.arange(3), 0)
