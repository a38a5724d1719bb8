"""The files around the package agree with each other, and the package keeps its promises."""

import json
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import memviz as mv

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
    "wheel"
]
COMMANDS = [
    'python -m pip install -c constraints.txt -e ".[lab]" && python -m memviz lab',
    'python -m pip install -c constraints.txt -e ".[test]" && python -m pytest',
]
# Packages that conda-forge calls by another name.
CONDA = {"torch": "pytorch"}


def requirements(*extras: str) -> list[Requirement]:
    texts = list(PROJECT["dependencies"])
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    return [Requirement(text) for text in texts]


def test_environment_yml_is_in_step_with_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    wanted = {f"{CONDA.get(r.name, r.name)}{r.specifier}" for r in requirements("lab")}
    wanted |= {f"python{PROJECT['requires-python']}", "pip"}
    *names, last = environment["dependencies"]
    assert set(names) == wanted
    assert len(names) == len(wanted)
    assert last == {"pip": ["-e ."]}
    assert environment["channels"] == ["conda-forge"]


@pytest.mark.parametrize(
    "requirement", requirements("docs", "hf", "lab", "test"), ids=lambda r: r.name
)
def test_constraints_pin_every_dependency_within_its_bounds(requirement: Requirement) -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    found = [pin for pin in pins if canonicalize_name(pin.name) == requirement.name]
    assert len(found) == 1
    (pin,) = found[0].specifier
    assert pin.operator == "=="
    assert requirement.specifier.contains(pin.version)


def test_lower_bounds_have_no_caps() -> None:
    for requirement in requirements("docs", "hf", "lab", "test"):
        assert [specifier.operator for specifier in requirement.specifier] == [">="]


def test_readme_opens_with_the_two_commands() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    indented = [line.strip() for line in lines if line.startswith("    ")]
    assert indented[:2] == COMMANDS
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert COMMANDS[1] in contributing


def drawn_folders() -> set[str]:
    """What the picture of the house in CONTRIBUTING.md names, two levels deep."""
    picture = (ROOT / "CONTRIBUTING.md").read_text().split("```")[1]
    drawn, room = set(), ""
    for line in picture.strip().splitlines()[1:]:
        names = re.findall(r"\w+(?=/)", line)
        if line.startswith("│"):
            drawn |= {f"{room}/{name}" for name in names}
        else:
            drawn |= set(names)
            room = names[-1] if names else ""
    return drawn


def test_the_picture_of_the_house_is_true_to_the_tree() -> None:
    package = ROOT / "memviz"
    files = [path.relative_to(package) for path in package.rglob("*") if path.is_file()]
    parents = {path.parts[:-1][:2] for path in files if "__pycache__" not in path.parts}
    there = {"/".join(parts[:depth]) for parts in parents for depth in (1, 2) if parts}
    assert drawn_folders() == there


def test_links_of_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text()
    for part in [*text.split("](")[1:], *text.split('src="')[1:], *text.split('srcset="')[1:]]:
        target = part.split(")")[0].split('"')[0]
        assert (ROOT / target).exists(), target


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
TEXTS += [*(ROOT / "docs").rglob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")]


@pytest.mark.parametrize("text", sorted(TEXTS), ids=lambda path: path.name)
def test_dotted_names_in_a_text_lead_somewhere(text: Path) -> None:
    for name in sorted(set(re.findall(r"\bmemviz(?:\.[A-Za-z_]\w*)+", text.read_text()))):
        pkgutil.resolve_name(name)


@pytest.mark.parametrize(
    "text", sorted((ROOT / "docs" / "course").glob("*.md")), ids=lambda p: p.name
)
def test_links_of_the_course_lead_somewhere(text: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", text.read_text())
    assert [target for target in targets if not (text.parent / target).exists()] == []


def test_the_teacher_s_page_names_every_notebook() -> None:
    text = (ROOT / "docs" / "course" / "teaching.md").read_text()
    assert [path.stem for path in NOTEBOOKS if not re.search(rf"\b{path.stem[:2]}\b", text)] == []


def test_changelog_has_this_version() -> None:
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] == mv.__version__
    assert citation["license"] == PROJECT["license"]
    day = citation["date-released"].isoformat()
    assert f"## [{citation['version']}] - {day}" in (ROOT / "CHANGELOG.md").read_text()


def test_licence_is_apache() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert PROJECT["license"] == "Apache-2.0"


def test_no_console_script_that_another_project_owns() -> None:
    assert "scripts" not in PROJECT


def test_public_names_are_few_sorted_and_there() -> None:
    assert list(mv.__all__) == sorted(mv.__all__)
    assert len(mv.__all__) <= 40
    assert [name for name in mv.__all__ if not hasattr(mv, name)] == []


def test_importing_memviz_leaves_the_slow_packages_alone() -> None:
    slow = {"anywidget", "captum", "IPython", "ipywidgets", "matplotlib", "open_clip", "pandas"}
    slow |= {"distributed", "joblib", "lightning", "PIL", "pyarrow", "scipy", "seaborn", "sklearn"}
    slow |= {"timm", "torchvision", "transformers"}
    code = f"import json, sys, memviz; print(json.dumps(sorted({slow} & set(sys.modules))))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == []


def sources() -> list[Path]:
    suffixes = {".py", ".js", ".css"}
    return sorted(p for p in (ROOT / "memviz").rglob("*") if p.suffix in suffixes)


def test_no_file_is_too_long_to_read() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in sources()}
    assert {name: n for name, n in lengths.items() if n > 400} == {}


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    assert [path for path in sources() if path.stem in {"utils", "helpers", "misc", "common"}] == []


def test_the_wheel_names_what_is_not_python() -> None:
    suffixes = {".py", ".pyc"}
    other = [
        path.relative_to(ROOT)
        for path in (ROOT / "memviz").rglob("*")
        if path.is_file() and path.suffix not in suffixes
    ]
    assert other
    unnamed = [p for p in other if not any(p.match(pattern) for pattern in WHEEL["artifacts"])]
    assert unnamed == []
    assert WHEEL["force-include"] == {"notebooks": "memviz/notebooks"}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_have_a_time_exercises_and_where_to_go_next(notebook: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert text.count("<details><summary>A solution</summary>") >= 3
    (_, after) = text.split("## Where to go next")
    named = set(re.findall(r"\]\((\w+\.ipynb)\)", after))
    assert named and named <= {path.name for path in NOTEBOOKS} - {notebook.name}
    numbers = [int(number) for number in re.findall(r"## (\d+)\. ", text)]
    assert numbers == list(range(1, len(numbers) + 1))
    *_, last = "".join(cells[0]["source"]).splitlines()
    assert re.fullmatch(r"\*\*Time:\*\* about [a-z -]+ on two cores[.,;].*", last)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_committed_without_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    assert len({cell["id"] for cell in cells}) == len(
        cells
    )  # nbformat renames twins, with a warning
    for cell in cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
