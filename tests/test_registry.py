"""A paper more, in a package of its own or in folders beside the others: no other file changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import memviz as mv
from memviz import registry
from memviz.demos import demos
from memviz.probes.contest import BLIND, LOCALIZERS

ROOT = Path(__file__).parents[1]

PACKAGE = {
    "tenth_paper/__init__.py": "",
    "tenth_paper/probes/__init__.py": "",
    "tenth_paper/probes/tenth/__init__.py": "from ._loudness import loudness as loudness",
    "tenth_paper/probes/tenth/_loudness.py": """
import torch
from memviz.engine.record import layers
from memviz.scores import Scores

def loudness(study):
    units = [unit for layer in layers(study) if not layer.is_output for unit in layer.all()]
    value = torch.cat([study.model.get_submodule(name).weight.detach().abs().sum(1)
                       for name in dict.fromkeys(unit.layer for unit in units)])
    return Scores("loudness", "weights in, absolute", value.numpy(), units=tuple(units))
""",
    "tenth_paper/probes/tenth/localizers.py": """
from . import loudness

LOCALIZERS = {"loudness": loudness}
BLIND = {"loudness"}
""",
    "tenth_paper/demos/__init__.py": "",
    "tenth_paper/demos/tenth/__init__.py": """
from pathlib import Path
import torch
from memviz.probes.contest import Truth
from memviz.study import Study

SHIPPED_SEEDS, MINUTES = (0, 1), 1.5

def load(seed=0):
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    with torch.no_grad():
        model[0].weight[5] = 9
    groups = {"memorized": range(3), "clean": range(3, 12)}
    return Study(model.eval(), torch.randn(12, 4), torch.arange(12) % 3, groups, name="tenth")

def prepare(seeds=SHIPPED_SEEDS, folder=None):
    for seed in seeds:
        (Path(folder) / f"tenth-seed{seed}").write_text("trained")
    return Path(folder)

TRUTHS = {"tenth, planted": lambda seed: Truth("tenth, planted", load(seed), "0:5", seed)}
""",
    "tenth_paper/widgets/__init__.py": "",
    "tenth_paper/widgets/tenth/__init__.py": "from ._view import tenth as tenth",
    "tenth_paper/widgets/tenth/_view.py": """
from memviz.widgets.core import Action, Message, Part
from memviz.widgets.workbench import View, shown_controller

class Loudest(Part):
    name = "tenth"

    @property
    def actions(self):
        return {"loudest": Action(lambda request, sink: self.answer())}

    def answer(self):
        self._tell(Message({"type": "loudest", "layers": len(self.session.known)}, []))

def tenth(study):
    controller = shown_controller(study)
    controller.part(Loudest)
    return View(controller, "tenth")
""",
    "tenth_paper/widgets/tenth/static/view.js": """
import { el } from "../../core/static/dom.js";
import { registerView } from "../../core/static/views.js";

registerView({
  part: "tenth",
  title: "loudest units",
  takers: (store) => ({ loudest(msg) { store.loudest = msg; } }),
  build(view) {
    view.root.append(el("p", {}, "loudest"));
    return [];
  },
});
""",
    "tenth_paper-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tenth-paper\nVersion: 1\n",
    "tenth_paper-1.0.dist-info/entry_points.txt": "[memviz]\nanything = tenth_paper\n",
}

# What somebody sees who has installed it, in a process of its own.
LOOK = """
import json, sys
import memviz as mv

seen = {"imported": sorted(name for name in sys.modules if name.startswith("memviz.demos."))}
study = mv.demo("tenth", seed=0)
seen["demo"] = study.name
seen["imported for it"] = sorted(n for n in sys.modules if n.startswith("memviz.demos."))

from memviz.demos.contest import known_truths, truths
from memviz.probes.contest import BLIND, LOCALIZERS, contest

seen["localizers"], seen["blind"] = list(LOCALIZERS), sorted(BLIND)
seen["truths"] = list(known_truths())
found = contest(truths([0], ["tenth, planted"]), {"loudness": LOCALIZERS["loudness"]},
                random_draws=0, progress=False)
seen["recall"] = float(found.frame.set_index("localizer").loc["loudness", "recall"])

from memviz.widgets.core import script
from tenth_paper.widgets.tenth import tenth

view = tenth(study)
told = []
view.send = lambda content, buffers=None: told.append(content)
controller = view.controller
controller.worker.threaded = False
view._hear({"type": "loudest"})
view._hear({"type": "score", "key": "localizer: loudness"})
controller.worker.run_until_idle()
seen["script"] = script()
seen["in the widget"] = 'part: "tenth"' in view._esm
seen["picks"] = controller.scores.picks()
fields = ("type", "layers", "key", "label", "done", "text")
seen["told"] = [{key: message.get(key) for key in fields} for message in told]
seen["ranking"] = controller.scores.ranking("localizer: loudness")

import memviz.demos, memviz.probes
from memviz import registry

memviz.probes.__path__.append(sys.argv[1] + "/probes")
memviz.demos.__path__.append(sys.argv[1] + "/demos")
seen["beside"] = [registry.places("probes", "localizers")["eleventh"],
                  "eleventh" in LOCALIZERS, mv.demo("eleventh")]
print(json.dumps(seen))
"""

BESIDE = {
    "probes/eleventh/__init__.py": "",
    "probes/eleventh/localizers.py": "LOCALIZERS = {'eleventh': lambda study: None}",
    "demos/eleventh.py": """
def load(seed=0):
    return f"eleventh, seed {seed}"

def prepare(seeds, folder=None):
    return folder
""",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder on the path where the tenth paper is installed."""
    folder = tmp_path_factory.mktemp("site-packages")
    write(folder, PACKAGE)
    return folder


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(installed)])},
        cwd=installed,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def seen(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    beside = tmp_path_factory.mktemp("beside")
    write(beside, BESIDE)
    found: dict[str, Any] = json.loads(run(installed, "-c", LOOK, str(beside)).stdout)
    return found


class TestATenthPaperInAPackageOfItsOwn:
    def test_is_in_the_contest(self, seen: dict[str, Any]) -> None:
        assert seen["localizers"] == [*LOCALIZERS, "loudness"]
        assert set(seen["blind"]) == {*BLIND, "loudness"}
        assert seen["truths"][-1] == "tenth, planted" and seen["recall"] == 1

    def test_is_a_demo(self, seen: dict[str, Any]) -> None:
        assert seen["demo"] == "tenth"

    def test_no_other_demo_is_imported(self, seen: dict[str, Any]) -> None:
        private = ["memviz.demos._find", "memviz.demos._weight_files"]
        assert seen["imported"] == seen["imported for it"] == private

    def test_is_prepared(self, installed: Path, tmp_path: Path) -> None:
        command = [
            "-m",
            "memviz",
            "prepare",
            "--again",
            "--only",
            "tenth",
            "--folder",
            str(tmp_path),
        ]
        assert run(installed, *command).stdout == (
            f"tenth: seeds 0, 1, about 3 min on two cores.\nWrote {tmp_path}\n"
        )
        assert {path.name for path in tmp_path.iterdir()} == {"tenth-seed0", "tenth-seed1"}

    def test_is_in_the_score_picker(self, seen: dict[str, Any]) -> None:
        pick = {"key": "localizer: loudness", "label": "loudness", "group": "localizers"}
        assert any(pick.items() <= offered.items() for offered in seen["picks"])
        (scores,) = (t for t in seen["told"] if t["key"] == pick["key"] and t["type"] == "scores")
        assert (scores["label"], scores["done"]) == ("loudness", 8)
        assert seen["ranking"][0] == 5

    def test_is_a_widget(self, seen: dict[str, Any]) -> None:
        assert 'title: "loudest units"' in seen["script"] and seen["in the widget"]
        assert [t["layers"] for t in seen["told"] if t["type"] == "loudest"] == [1]
        assert not [t for t in seen["told"] if t["type"] == "error"]


def test_folders_beside_the_others_are_found(seen: dict[str, Any]) -> None:
    place = "memviz.probes.eleventh.localizers"
    assert seen["beside"] == [place, True, "eleventh, seed 0"]


def install(folder: Path, package: str, files: dict[str, str]) -> None:
    entry = {f"{package}.dist-info/entry_points.txt": f"[memviz]\nx = {package}\n"}
    entry[f"{package}.dist-info/METADATA"] = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n"
    write(folder, entry | {f"{package}/{name}": text for name, text in files.items()})


def test_a_package_that_cannot_be_imported_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "broken_paper", {"__init__.py": "raise OSError('no disk')"})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert registry.packages() == ["memviz", "broken_paper"]
    with pytest.warns(match=r"broken_paper is left out: it could not be imported \(OSError: no d"):
        assert next(iter(LOCALIZERS)) == "exact ablation"
    with pytest.warns(match="broken_paper is left out"):
        assert mv.demo("digits").name == "digits"


def test_a_module_that_cannot_be_imported_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"__init__.py": "", "probes/__init__.py": "", "probes/b/__init__.py": ""}
    files |= {"probes/b/localizers.py": "import no_such_module"}
    install(tmp_path, "half_paper", files)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.warns(match=r"half_paper.probes.b.localizers is left out.*no_such_module"):
        assert "UnitMem" in LOCALIZERS


def test_a_name_that_is_taken_stands_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "def load(seed):\n    return seed\ndef prepare(seeds, folder):\n    return folder\n"
    install(tmp_path, "same_paper", {"__init__.py": "", "demos/digits.py": text})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert registry.places("demos")["digits"] == "memviz.demos.digits"
    assert "same_paper.digits" in demos()
    assert mv.demo("same_paper.digits", seed=7) == 7
    with pytest.raises(ValueError, match="no demo 'nine'; choose from: .*'digits', .*same_paper"):
        mv.demo("nine")


def test_neither_packages_nor_private_files_are_places() -> None:
    assert "_find" not in registry.places("demos") and "__main__" not in registry.places("demos")
    assert registry.places("no_such_room") == {}
    assert set(registry.places("probes", "localizers")) < set(registry.places("probes"))
