"""The pages of the documentation site: whole, reachable, and their code runs."""

import doctest
import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
NAMES = [page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}


def in_toctrees(page: Path) -> set[str]:
    """What the toctrees of a page name, from the folder of the pages on."""
    entries: set[str] = set()
    for block in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.DOTALL | re.M):
        lines = [line.strip() for line in block.splitlines()]
        names = [line for line in lines if line and not line.startswith(":")]
        entries |= {(page.parent / name).relative_to(DOCS).as_posix() for name in names}
    return entries


def test_every_page_is_in_one_toctree_and_every_entry_has_a_page() -> None:
    entries = [entry for page in PAGES for entry in in_toctrees(page)]
    assert len(entries) == len(set(entries))
    pages, written = set(NAMES) - {"index"}, {"api/index", "notebooks/*"}  # those are made
    assert set(entries) - written == pages
    assert written <= set(entries)


def test_every_paper_has_a_page_that_says_the_same_things() -> None:
    folders = {path.parent.name for path in (ROOT / "memviz/probes").glob("*/__init__.py")}
    papers = {page.stem: page.read_text() for page in (DOCS / "papers").glob("*.md")}
    assert folders <= set(papers)
    for name, text in papers.items():
        if name != "index":
            for part in ("## Claim", "## Definition", "**Null", "## What we saw", "## Traps"):
                assert part in text, f"{name} lacks {part}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_figures_name_a_cell_of_a_notebook(page: Path) -> None:
    named = re.findall(r"\{from-notebook\} (\S+)\n:cell: (\S+)\n:alt: \S", page.read_text())
    assert len(named) == page.read_text().count("{from-notebook}")
    for notebook, cell in named:
        cells = json.loads(NOTEBOOKS[notebook].read_text())["cells"]
        assert cell in {one["id"] for one in cells if one["cell_type"] == "code"}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+\.(?:md|ipynb|png))", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_no_page_tells_where_it_was_written() -> None:
    for page in PAGES:
        assert not re.search(r"(?<![\w.~])/(work|tmp|home|root|Users)/", page.read_text()), page


WITH_CODE = [page for page in PAGES if ">>> " in page.read_text()]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.stem)
def test_code_in_the_pages_runs(page: Path) -> None:
    # A closing fence would count as expected output.
    text = re.sub(r"^```.*$", "", page.read_text(), flags=re.M)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    test = doctest.DocTestParser().get_doctest(text, {}, page.stem, str(page), 0)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=flags).run(test, out=said.append)
    assert result.failed == 0, "".join(said)
    assert result.attempted > 0


def part(name: str) -> ModuleType:
    """A file of the site's own code, which is no package."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, DOCS / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_dead_links_of_a_site_are_found(tmp_path: Path) -> None:
    links = part("parts/links.py")
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(
        '<h1 id="top"><a href="#top"></a><a href="sub/b.html#here"><img src="no.png">'
        '<a href="https://example.org/x"><a href="sub/b.html#there"><a href="c.html">'
    )
    (tmp_path / "sub/b.html").write_text('<p id="here"><a href="../a.html">')
    assert links.dead_links(tmp_path) == [
        "a.html: c.html",
        "a.html: no.png",
        "a.html: sub/b.html#there (no such anchor)",
    ]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The build, which finds its parts by ``sys.path``."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    return part("build.py")


def test_a_build_forgets_what_is_gone(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs, executed, source = tmp_path / "docs", tmp_path / "executed", tmp_path / "source"
    for path in (docs / "images/a.png", docs / "images/b.png", docs / "index.md"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    (tmp_path / "notebooks").mkdir()
    for name in ("00_one.ipynb", "01_two.ipynb"):
        (tmp_path / "notebooks" / name).write_text("{}")
        build.write(executed / name, b"{}")  # newer: nothing is executed
    monkeypatch.setattr(build, "DOCS", docs)
    monkeypatch.setattr(build, "ROOT", tmp_path)

    def all_built() -> set[str]:
        build.gather(source)
        build.copy_new(build.execute(executed), source / "notebooks", "*.ipynb")
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        built = [path.relative_to(tmp_path) for path in files]
        return {path.as_posix() for path in built if path.parts[0] in ("executed", "source")}

    for made in ("source/api/memviz.rst", "source/extra/_live/a.html", "source/_figures/c.png"):
        build.write(tmp_path / made, b"made by other steps")
    first = all_built()
    gone = {"executed/01_two.ipynb", "source/notebooks/01_two.ipynb", "source/images/b.png"}
    assert gone < first
    (docs / "images/b.png").unlink()
    (tmp_path / "notebooks/01_two.ipynb").unlink()
    assert all_built() == first - gone


def test_the_page_of_a_room_that_is_gone_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = part("parts/api.py")
    monkeypatch.setattr(api, "homes", lambda package: {"memviz": {}, "memviz.study": {}})
    (tmp_path / "memviz.rooms.rst").write_text("old")
    api.write(tmp_path, ROOT / "memviz")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["index.md", "memviz.rst", "memviz.study.rst"]


def test_a_live_page_that_is_too_large_fails_every_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    views, computed = part("parts/views.py"), []

    class Large:
        def export(self, page: Path) -> None:
            page.write_bytes(bytes(8_000_001))

        def close(self) -> None:
            computed.append(self)

    monkeypatch.setattr(views, "computed", lambda name: Large())
    for _ in range(2):
        with pytest.raises(SystemExit, match=r"digits.html has 8,000,001 bytes, more than 8,0"):
            views.export(tmp_path)
    assert len(computed) == 1
    monkeypatch.setattr(views, "MOST_BYTES", 8_000_001)
    views.export(tmp_path)
    assert len(computed) == 2  # the other page
    # Written before this file was changed: it is made again.
    changed = Path(views.__file__).stat().st_mtime
    monkeypatch.setattr(views, "mv", SimpleNamespace(__file__=str(tmp_path / "none/x.py")))
    os.utime(tmp_path / "digits.html", (changed - 9, changed - 9))
    views.export(tmp_path)
    assert len(computed) == 3


def test_the_figure_of_the_contest_is_that_of_the_printed_tables() -> None:
    import pandas as pd

    printed = part("parts/printed.py")
    found = printed.contest((DOCS / "figures.md").read_text())
    recall = found.table("recall")
    assert recall.at["exact ablation", "injected, one image a unit"] == 0.08
    assert recall.at["GradCam", "example-tied, one image"] == 0.28
    assert pd.isna(recall.at["GradCam", "constructed, ReLU"]) and recall["digits"].isna().all()
    drops = [
        found.table(f"{of} drop").at["exact ablation", "digits"] for of in ("memorized", "net")
    ]
    assert drops == pytest.approx([0.60, 0.53])
    assert found.table("seconds").shape == (19, 7) == recall.shape
    frame = found.frame.set_index(["localizer", "truth"])
    lowest = frame.loc[("greedy search", "constructed, hard-tanh")]
    assert (lowest["recall"], lowest["random high"]) == (0.0, 0.5)


def test_the_table_of_corners_is_the_printed_one() -> None:
    rows = part("parts/printed.py").corners((DOCS / "figures.md").read_text())
    assert len(rows) == 6
    assert rows[3] == ("50 % of each side", "0", "+.028 ± .008", "+.004 ± .008")
    assert rows[0][2] == "−.004 ± .006"


def test_the_figures_of_deja_vu_are_those_of_the_printed_tables() -> None:
    printed = part("parts/printed_gaps.py")
    text = (DOCS / "figures.md").read_text()
    table = printed.directions(text)
    settings = table.groupby(["direction", "setting"], sort=False)["PPG"]
    assert (settings.size() == 3).all() and table["direction"].nunique() == 6
    masked = settings.agg(["mean", "min", "max"]).loc[("caption masking", "0.3")]
    assert masked.tolist() == pytest.approx([0.338, 0.299, 0.371])
    assert table["null PPG"].agg(["min", "max"]).tolist() == [-0.135, 0.191]
    assert ("training pairs, about 240 steps", "4,000") in settings.groups
    near = printed.neighbours(text).set_index(["labels", "k"])
    assert near.shape == (16, 6) and near.at[("top 10 labels", 50), "null AUCG"] == 0.009
    assert near.at[("all labels", 50), "PRG"] == 0.152
    first = printed.first_pairs(text)
    assert list(first) == ["recall_gap", "min_dist"]
    assert first["min_dist"].set_index("pairs").at[10, "null_recall_gap"] == 0.031


def test_every_printed_figure_that_a_page_shows_is_drawn() -> None:
    text = "".join(page.read_text() for page in PAGES)
    named = re.findall(r"\{printed-figure\} (\S+)\n:alt: \S", text)
    assert len(named) == text.count("```{printed-figure}")
    drawn = (DOCS / "parts/from_printed.py").read_text()
    assert set(named) == set(re.findall(r'^    "([a-z-]+)": ', drawn, re.M))
