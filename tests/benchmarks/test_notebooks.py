"""What a notebook costs: the seconds and the memory that its cells are known to take."""

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
        yield (
            notebooks.measure(["07"], cells=True)["07_small"],
            nbformat.read(folder / "07_small.ipynb", as_version=4),
        )


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
