"""What a notebook costs: the seconds and the memory that its cells are known to take."""

import json

import nbformat
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import notebooks

BUSY = """
import time
end = time.process_time() + 2
while time.process_time() < end:
    pass
"""
FULL = "large = bytearray({bytes}); large[::512] = bytes([1]) * len(large[::512]); del large"
PICTURE = "from IPython.display import HTML, display; display(HTML('<b>seen</b>'))"


EXERCISE = """
**1. Add.** How much?

<details><summary>A solution</summary>

```python
{code}
```

</details>
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    cells = [BUSY, FULL.format(bytes=400_000_000), PICTURE, "1 + 1"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    for number, cell in enumerate(book.cells):
        cell.id = f"cell-{number}"
    nbformat.write(book, folder / "07_small.ipynb")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(notebooks, "FOLDER", folder)
        facts = notebooks.measure(["07"], cells=True)["07_small"]
    return facts, nbformat.read(folder / "07_small.ipynb", as_version=4)


def test_seconds_and_memory_are_those_of_the_kernel(found):
    facts, _ = found
    assert facts["cpu_seconds"] >= 2
    assert 0.4 < facts["peak_gb"] < 0.7
    assert 0 < facts["first_seen"] <= facts["seconds"]


def test_the_heavy_cells_are_named_and_a_peak_counts_once(found):
    facts, _ = found
    assert list(facts["cells"]) == ["cell-0"]  # the peak of cell-1 is below a gigabyte
    assert facts["cells"]["cell-0"]["peak_gb"] < 0.3
    assert facts["cells"]["cell-0"]["cpu_seconds"] == pytest.approx(2, abs=0.5)


def test_the_notebook_stays_without_outputs(found):
    assert [cell.outputs for cell in found[1].cells] == [[], [], [], []]


def test_a_number_that_no_notebook_has_is_refused():
    with pytest.raises(SystemExit, match="none in .* begins with 99"):
        benchmarks.main(["notebooks", "99"])


def test_hidden_solutions_run_where_they_stand_and_one_that_fails_is_named(
    tmp_path, monkeypatch, capsys
):
    of = nbformat.v4
    answers = ["print(seen + 1)\nseen * 21", "raise ValueError('not so')", "seen"]
    cells = [
        of.new_code_cell("seen = 2"),
        *(of.new_markdown_cell(EXERCISE.format(code=a)) for a in answers),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"add-{number}"
    nbformat.write(of.new_notebook(cells=cells), tmp_path / "07_add.ipynb")
    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    with pytest.raises(SystemExit, match=r"these solutions fail: add-2-solution\."):
        notebooks.main(["--solutions", "--json"])
    found = json.loads(capsys.readouterr().out)["07_add"]["solutions"]
    assert [found[f"add-{n}-solution"].get("said") for n in (1, 2, 3)] == ["3\n\n42", None, "2"]
    assert found["add-2-solution"]["error"] == "ValueError: not so"


def test_every_hidden_solution_is_code():
    for path in sorted(notebooks.FOLDER.glob("*.ipynb")):
        book = nbformat.read(path, as_version=4)
        added = notebooks.add_solutions(book)
        assert len(added) >= 3
        for cell in book.cells:
            if cell.id in added:
                assert cell.source.strip()
                compile(cell.source, cell.id, "exec")
