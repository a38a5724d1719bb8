"""One page to send: what it holds, that it is the same each time, and that names stay text."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import memviz as mv
from memviz.engine.sets import AblationCurve
from memviz.reports import halves, verdict
from memviz.tensor_files import digest
from tests.support.widgets import (
    EVIL,
    EVIL_GROUP,
    flat_study,
    hostile_study,
    pair_study,
    small_study,
)


class Page(HTMLParser):
    """The elements of a page, its texts, and the tables behind its links."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open = ""
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def table(self, name: str) -> pd.DataFrame:
        """The CSV behind a link, without the network."""
        link = next(a for a in self.of("a") if a.get("download") == f"{name}.csv")
        head, data = str(link["href"]).split("base64,")
        assert head == "data:text/csv;charset=utf-8;"
        return pd.read_csv(io.BytesIO(base64.b64decode(data)))


def hooks_of(model: torch.nn.Module) -> list[int]:
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]


def bytes_but_for_the_date(path: Path) -> bytes:
    lines = path.read_bytes().split(b"\n")
    dated = [line for line in lines if b'id="written"' in line]
    assert len(dated) == 1
    return b"\n".join(line for line in lines if line not in dated)


@pytest.fixture(scope="module")
def study() -> mv.Study:
    return small_study()


@pytest.fixture(scope="module")
def written(study: mv.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "a.html"
    return mv.report(study, path, units=4, random_draws=3, progress=False)


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page(written)


def test_it_tells_what_was_asked_and_found(page: Page, study: mv.Study) -> None:
    for words in (
        "memviz report: strokes",
        "ConvNet",
        "12 memorized, 32 clean, 12 test",
        "What each score finds",
        "The 4 units:",
        "What it costs",
        "SHA-256",
        f"torch {torch.__version__}",
        "Source: memviz: exact ablation, one unit at a time",
    ):
        assert words in page.text, words
    links = {a["href"] for a in page.of("a") if str(a["href"]).startswith("#")}
    assert links == {f"#{a['id']}" for a in page.of("section")}


def test_units_are_chosen_on_one_half_and_shown_on_the_other(page: Page, study: mv.Study) -> None:
    """Against the plain functions, on halves that are read from the page's own figures."""
    curve, table = page.table("curve"), page.table("ablated").set_index("group")
    held_out, own = table.loc["memorized"], table.loc["memorized, units chosen on it"]
    assert held_out["examples"] == own["examples"] == 6
    units = re.search(r"The 4 units: ([a-z0-9:, ]+?) A", page.text)
    assert units is not None
    found = mv.readout(study, units[1].strip(), random_draws=0).groups
    for name in ("memorized", "clean"):
        both = table.loc[[name, f"{name}, units chosen on it"]]
        right = (both["after"] * both["examples"]).sum()
        assert right == pytest.approx(found[name].after.correct)
    assert table.loc["test", "after"] == pytest.approx(found["test"].after.accuracy)
    last = curve[curve["units"] == 4].set_index("group")["accuracy"]
    assert last.to_dict() == pytest.approx(table["after"].to_dict())


@pytest.mark.parametrize(
    ("after", "random", "said"),
    [
        (0.05, [0.3, 0.1], False),
        (0.2, [0.3, 0.1], True),
        (0.9, [0.3, 0.1], True),
        (0.2, [np.nan] * 2, False),
    ],
)
def test_units_that_do_no_more_than_random_ones_are_called_so(
    after: float, random: list[float], said: bool
) -> None:
    draws = np.array([[[1.0], [accuracy]] for accuracy in random])
    curve = AblationCurve([0, 4], ["memorized"], np.array([[1.0], [after]]), draws, "effect")
    assert bool(verdict(curve, "memorized")) is said


def test_the_units_are_the_highest_of_the_half(study: mv.Study) -> None:
    effects = mv.sweep(study, progress=False)
    found = halves(study, effects, [0, 2], 2, seed=3, progress=False)
    names = [*found.own, "memorized", "clean"]
    chosen_on, of_clean, held_out, clean = (found.study.groups[name] for name in names)
    assert not (chosen_on & held_out).any() and not (of_clean & clean).any()
    assert torch.equal(chosen_on | held_out, study.groups["memorized"])
    drop = -effects.margin_change[:, chosen_on].mean(1) + effects.margin_change[:, of_clean].mean(1)
    assert set(found.units) == {effects.units[row] for row in drop.topk(2).indices}
    other = halves(study, effects, [0, 2], 2, seed=4, progress=False)
    assert not torch.equal(other.study.groups["memorized"], held_out)


def test_tables_are_those_of_the_plain_functions(page: Page, study: mv.Study) -> None:
    ranking = mv.sweep(study, progress=False).scores()
    units = page.table("units")
    names = [str(mv.Unit(row.layer, row.unit)) for row in units.itertuples()]
    assert names == [str(unit) for unit in ranking.units or ()]
    np.testing.assert_allclose(units["value"], ranking.values, rtol=1e-4, atol=1e-6)
    examples = page.table("examples")
    assert len(examples) == 44  # of the groups but test
    loss = -torch.log_softmax(study.model(study.inputs), 1).gather(1, study.labels[:, None])[:, 0]
    found = examples.set_index("example")["final loss"]
    np.testing.assert_allclose(found, loss.detach()[found.index.tolist()], rtol=1e-4, atol=1e-6)


def test_the_same_input_gives_the_same_bytes_but_for_the_date(
    study: mv.Study, written: Path, tmp_path: Path
) -> None:
    torch.manual_seed(7)
    again = mv.report(study, tmp_path / "b.html", units=4, random_draws=3, progress=False)
    assert bytes_but_for_the_date(again) == bytes_but_for_the_date(written)
    assert "Computed in" not in bytes_but_for_the_date(again).decode()


def test_one_script_runs_and_no_other(page: Page) -> None:
    policy = str(next(m["content"] for m in page.of("meta") if "http-equiv" in m))
    found = re.findall(r'<script type="module">(.*?)</script>', page.source, re.DOTALL)
    assert len(found) == 1
    hashed = base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{hashed}';" in policy
    assert "default-src 'none'" in policy and "http" not in policy
    kinds = [script.get("type") for script in page.of("script")]
    assert sorted(map(str, kinds)) == ["application/json", "module"]


def test_figures_take_the_ink_of_the_page(page: Page) -> None:
    figures = page.of("svg")
    assert len(figures) == 6
    assert all(figure["role"] == "img" and figure["aria-label"] for figure in figures)
    drawn = "".join(re.findall(r"<svg.*?</svg>", page.source, re.DOTALL)[:6])
    assert "currentColor" in drawn and "#010203" not in drawn and "<style" not in drawn
    ids = re.findall(r'\sid="([^"]*)"', page.source)
    assert len(ids) == len(set(ids))


def test_hostile_names_are_text(tmp_path: Path) -> None:
    path = mv.report(hostile_study(), tmp_path / "a.html", units=2, random_draws=2, progress=False)
    found = Page(path)
    assert found.of("img") == [] and len(found.of("script")) == 2
    assert not any(key.startswith("on") for _, attributes in found.tags for key in attributes)
    assert EVIL in "".join(found.texts) and EVIL_GROUP in "".join(found.texts)
    told = found.table("examples")
    assert EVIL in set(told["given label"])


def test_a_name_is_no_formula(tmp_path: Path) -> None:
    names = ["=1+1", "@x", "-3", "four"]
    path = mv.report(
        small_study(class_names=names),
        tmp_path / "a.html",
        units=2,
        scores=[mv.Scores("loss", "nats", [1.0, 2.0], examples=[0, 40])],
        random_draws=1,
        progress=False,
    )
    found = Page(path).table("examples")
    cells = {*found["given label"], *found["true label"]}
    assert cells and not any(str(cell).startswith(("=", "@", "-")) for cell in cells)


def test_groups_from_a_score_are_called_suspects(study: mv.Study, tmp_path: Path) -> None:
    loss = mv.Scores("my loss", "nats", np.arange(60.0), examples=range(60))
    suspected = study.suspects(loss, k=6)
    path = mv.report(
        suspected, tmp_path / "a.html", units=2, scores=[loss], random_draws=1, progress=False
    )
    text = Page(path).text
    assert "suspects, not findings" in text and "no AUROC" in text
    assert "the 6 of 48 with the highest my loss" in text


def test_a_single_memorized_example_leaves_nothing_to_hold_out(tmp_path: Path) -> None:
    study = flat_study(groups={"memorized": [3], "clean": range(4, 30)})
    path = mv.report(study, tmp_path / "a.html", scores=[], random_draws=1, progress=False)
    text = Page(path).text
    assert "nothing could be held out" in text and "has no group test" in text
    assert "No scores over examples were asked for" in text


def several_labels() -> mv.Study:
    """A network that answers with several classes at once."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
        ).eval()
    labels = (torch.rand(30, 3, generator=generator) > 0.5).float()
    groups = {"memorized": range(6), "clean": range(6, 20), "test": range(20, 30)}
    inputs = torch.randn(30, 5, generator=generator)
    names = ["ant", "bee", "cat"]
    return mv.Study(model, inputs, labels, groups, task=mv.MultiLabel(), class_names=names)


def prices() -> mv.Study:
    """A network that predicts numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1)
        ).eval()
    groups = {"记忆": range(6), "$x_{": range(6, 30)}
    inputs = torch.linspace(-1, 1, 150).reshape(30, 5)
    return mv.Study(model, inputs, torch.arange(30.0), groups, task=mv.Regression(9.0))


@pytest.mark.parametrize("make", [pair_study, several_labels, prices])
def test_other_tasks_and_inputs(make: Callable[[], mv.Study], tmp_path: Path) -> None:
    study = make()
    path = mv.report(study, tmp_path / "a.html", random_draws=1, progress=False)
    found = Page(path)
    assert "final loss" in found.text and len(found.table("examples")) >= 20
    assert set(study.groups) <= set(found.table("curve")["group"])


def test_the_model_is_as_it_was(study: mv.Study, tmp_path: Path) -> None:
    before, state = digest(study.model.state_dict()), torch.get_rng_state()
    hooks = hooks_of(study.model)
    mv.report(study, tmp_path / "a.html", units=1, random_draws=1, progress=False)
    assert digest(study.model.state_dict()) == before and hooks_of(study.model) == hooks
    assert torch.equal(torch.get_rng_state(), state) and not study.model.training


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("memviz.reports._halves", "ablation_curve"),
        ("memviz.widgets.workbench._scores", "sweep_steps"),
    ],
)
def test_an_interrupt_leaves_the_file_as_it_was(
    study: mv.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, name: str
) -> None:
    path = tmp_path / "a.html"
    path.write_text("before")
    state = torch.get_rng_state()

    def interrupted(*_: object, **__: object) -> None:
        torch.rand(3)
        raise KeyboardInterrupt

    monkeypatch.setattr(import_module(place), name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        mv.report(study, path, units=1, scores=[], progress=False)
    assert path.read_text() == "before" and [p.name for p in tmp_path.iterdir()] == ["a.html"]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("given", "error", "sentence"),
    [
        ("digits", TypeError, "expected a Study"),
        (flat_study(), ValueError, "only the group 'test'"),
        (mv.Session(small_study()), TypeError, "take its .study"),
    ],
)
def test_what_is_no_study_gets_a_sentence(
    tmp_path: Path, given: object, error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        mv.report(given, tmp_path / "a.html", progress=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"units": 20}, "units is 20; this model has 20, so choose from 1 to 19"),
        ({"units": 0}, "units is 0"),
        ({"path": "nowhere/a.html"}, "there is no folder"),
        ({"path": "."}, "is a folder, not a file"),
        ({"random_draws": 0}, "random_draws is 0"),
        ({"scores": [mv.Scores("u", "x", [1.0], units=["fc:0"])]}, "'u' is over units"),
    ],
)
def test_a_wrong_argument_gets_a_sentence(
    study: mv.Study, tmp_path: Path, options: dict[str, object], sentence: str
) -> None:
    path = tmp_path / str(options.pop("path", "a.html"))
    with pytest.raises((OSError, ValueError), match=re.escape(sentence)):
        mv.report(study, path, progress=False, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
