"""``python -m memviz``: lab, demo, report, prepare, doctor."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from memviz import registry, tensor_files
from memviz.__main__ import main
from memviz.cli import demo, doctor, lab
from memviz.cli.prepare import found_ready
from memviz.demos import demos
from memviz.engine.sets import AblationCurve
from memviz.tensor_files import NotWritten

ROOT = Path(__file__).parents[2]


class TestArguments:
    @pytest.mark.parametrize(
        "command", [[], ["lab"], ["demo"], ["report"], ["prepare"], ["doctor"]]
    )
    def test_help_teaches_with_commands_to_copy(
        self, command: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stop:
            main([*command, "--help"])
        assert stop.value.code == 0
        assert "\n  python -m memviz " in capsys.readouterr().out

    def test_runs_as_a_module(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "memviz", "demo", "--seeds", "none"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 2
        assert "'none' is not a whole number from 0 up." in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ([], "required: command"),
            (["show"], "invalid choice: 'show'"),
            (["demo", "--units", "0"], "'0' is not a whole number from 1 up."),
            (["demo", "--units", "many"], "'many' is not a whole number from 1 up."),
            (["demo", "--seeds", "-1"], "'-1' is not a whole number from 0 up."),
            (["prepare", "--seeds", "x"], "'x' is not a whole number from 0 up."),
            (["doctor", "--", "--debug"], "only the command lab takes arguments after --."),
        ],
    )
    def test_a_wrong_argument_gets_a_sentence(
        self, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert sentence in capsys.readouterr().err


class TestReport:
    def test_writes_a_page_of_a_study_in_a_module_of_this_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "my_own_study.py").write_text(
            "from tests.support.widgets import small_study as make\nheld = make()\n"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(ROOT))
        arguments = ["--file", "mine.html", "--units", "2", "--draws", "1"]
        assert main(["report", "my_own_study:held", *arguments]) == 0
        assert "memviz report: strokes" in (tmp_path / "mine.html").read_text()
        assert capsys.readouterr().out.startswith("Wrote mine.html (")

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["nothing"], "There is no demo 'nothing'"),
            (["no_such_module:study"], "No module named 'no_such_module'; name a module"),
            (["math:study"], "the module 'math' has no 'study'"),
            (["math:pi"], "expected a Study"),
            (["--file", "nowhere/a.html"], "there is no folder 'nowhere'"),
        ],
    )
    def test_a_wrong_study_or_file_gets_a_sentence(
        self, arguments: list[str], sentence: str
    ) -> None:
        with pytest.raises(SystemExit, match=re.escape(sentence)):
            main(["report", *arguments])

    @pytest.mark.parametrize("name", ["model", "Linear"])
    def test_what_can_be_called_but_is_no_function_is_refused_in_a_sentence(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "my_model.py").write_text("from torch.nn import Linear\nmodel = Linear(2, 2)\n")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit, match="^report: expected a Study"):
            main(["report", f"my_model:{name}"])

    def test_what_the_users_own_function_raises_is_theirs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "my_other_study.py").write_text("def make():\n    return 1 + 'a'\n")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(TypeError, match="unsupported operand") as raised:
            main(["report", "my_other_study:make"])
        assert raised.traceback[-1].name == "make"


def test_a_command_lets_idle_threads_sleep(tmp_path: Path) -> None:
    """Set before torch is imported, which reads it once."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': print('torch', os.environ.get('OMP_WAIT_POLICY'))\n"
        "sys.meta_path.insert(0, Watch())\n"
    )
    env = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    for command, policy in (
        (["-m", "memviz", "--help"], "PASSIVE"),
        (["-c", "import memviz"], None),
    ):
        said = subprocess.run(
            [sys.executable, *command], env=env, capture_output=True, text=True, check=True
        )
        assert f"torch {policy}" in said.stdout.splitlines()


class Became(BaseException):
    """Stands for the end of this process: it became another program."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command that ``lab`` would have become."""
    command: list[str] = []

    def execv(program: str, arguments: list[str]) -> None:
        assert program == sys.executable
        command.extend(arguments)
        raise Became

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(lab, "tell_address", lambda process, notebook: None)
    return command


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder as a wheel lays it, with one notebook; the current folder is empty."""
    package = tmp_path / "site-packages" / "memviz"
    (package / "notebooks").mkdir(parents=True)
    (package / "notebooks" / "00_start_here.ipynb").write_text("shipped")
    monkeypatch.setattr(lab, "PACKAGE", package)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return package


class TestLab:
    def test_opens_the_first_notebook(self, started: list[str]) -> None:
        with pytest.raises(Became):
            main(["lab", "--in-place"])
        notebook = str(ROOT / "notebooks" / "00_start_here.ipynb")
        assert started[:4] == [sys.executable, "-m", "jupyterlab", notebook]

    def test_passes_options_and_what_follows_the_dashes(
        self, started: list[str], tmp_path: Path
    ) -> None:
        (tmp_path / "mine.ipynb").touch()
        mine = str(tmp_path / "mine.ipynb")
        with pytest.raises(Became):
            main(["lab", mine, "--no-browser", "--port", "8899", "--", "--debug", "--", "x"])
        assert started[3:6] == [mine, "--no-browser", "--ServerApp.port=8899"]
        assert started[-3:] == ["--debug", "--", "x"]

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="only POSIX has a root")
    @pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
    def test_root_is_allowed(
        self, started: list[str], monkeypatch: pytest.MonkeyPatch, user: int, allowed: bool
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: user)
        with pytest.raises(Became):
            main(["lab", "--in-place"])
        assert ("--allow-root" in started) == allowed

    def test_windows_waits_for_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Not os.name itself: pathlib looks at it, too.
        windows = type("os", (), {"name": "nt", "environ": {}})
        monkeypatch.setattr(lab, "os", windows)
        monkeypatch.setattr(lab.subprocess, "call", lambda command: len(command))
        assert main(["lab", "--no-browser", "--in-place"]) == 5
        assert windows.environ["OMP_WAIT_POLICY"] == "PASSIVE"

    @pytest.mark.parametrize("name", ["nothing", "../README", "sub/nothing.ipynb"])
    def test_an_unknown_notebook_is_answered_with_the_known(self, name: str) -> None:
        with pytest.raises(SystemExit, match=r"no notebook .*00_start_here"):
            main(["lab", name])

    def test_without_jupyterlab_says_how_to_install_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(SystemExit, match=r'pip install -c constraints.txt -e "\.\[lab\]"'):
            main(["lab"])

    def test_from_a_wheel_the_notebook_is_copied(
        self, wheel: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert (
            lab.find_notebook("00_start_here")
            == Path.cwd() / "my_notebooks" / "00_start_here.ipynb"
        )
        assert Path("my_notebooks/00_start_here.ipynb").read_text() == "shipped"
        assert "Copied 00_start_here.ipynb" in capsys.readouterr().out

    def test_links_between_the_notebooks_lead_to_copies(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("my_notebooks").mkdir()
        Path("my_notebooks/03_where.ipynb").write_text("mine")
        first = lab.find_notebook("00_start_here")
        linked = set(re.findall(r"\]\((\w+\.ipynb)\)", first.read_text()))
        assert "01_bring_your_own_model.ipynb" in linked
        assert all((first.parent / name).is_file() for name in linked)
        assert (first.parent / "03_where.ipynb").read_text() == "mine"

    def test_from_a_wheel_nothing_is_overwritten(
        self, wheel: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("my_notebooks").mkdir()
        Path("my_notebooks/00_start_here.ipynb").write_text("mine")
        assert lab.find_notebook("00_start_here").read_text() == "mine"
        assert "was already there" in capsys.readouterr().out
        # A file of the current folder comes first.
        Path("00_start_here.ipynb").write_text("nearer")
        assert lab.find_notebook("00_start_here.ipynb").read_text() == "nearer"

    def test_a_copy_that_was_cut_short_is_not_there_and_not_announced(
        self,
        wheel: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def cut(path: Path, content: bytes) -> None:
            path.write_text(content.decode()[:3])
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as full:
            full.setattr(Path, "write_bytes", cut)
            with pytest.raises(SystemExit, match=r"^lab: .*00_start_here.* No space left on dev"):
                lab.find_notebook("00_start_here")
        assert list(Path("my_notebooks").iterdir()) == []
        assert capsys.readouterr().out == ""
        assert lab.find_notebook("00_start_here").read_text() == "shipped"

    def test_from_a_wheel_the_cure_names_the_distribution(self, wheel: Path) -> None:
        assert lab.install_command("lab") == 'python -m pip install "memviz-torch[lab]"'

    def test_in_a_clone_the_tracked_notebook_stays_as_it_is(
        self, started: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(Became):
            main(["lab", "01_bring_your_own_model"])
        copy = tmp_path / "my_notebooks" / "01_bring_your_own_model.ipynb"
        assert started[3] == str(copy)
        assert copy.read_bytes() == (ROOT / "notebooks" / copy.name).read_bytes()

    def test_jupyterlab_really_starts_and_ends(self, tmp_path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        private = {
            name: str(tmp_path / name)
            for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
        }
        (tmp_path / "mine.ipynb").write_text('{"cells": []}')
        command = [sys.executable, "-m", "memviz", "lab", "mine.ipynb", "--no-browser"]
        command += ["--port", str(port), "--", "--IdentityProvider.token=secret"]
        env = os.environ | private | {"PYTHONPATH": str(ROOT)}
        with (tmp_path / "log").open("w") as log:
            server = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}/api/contents/mine.ipynb?content=0&token=secret"
            assert wait_for(address, server) == "mine.ipynb", (tmp_path / "log").read_text()
            told = f"The notebook is at http://localhost:{port}/lab/tree/mine.ipynb?token=secret"
            end = time.monotonic() + 30
            while told not in (tmp_path / "log").read_text() and time.monotonic() < end:
                time.sleep(0.2)
            assert told in (tmp_path / "log").read_text()
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)


def wait_for(address: str, server: subprocess.Popen[bytes]) -> str:
    """The name of the notebook that the server serves, or what went wrong for 90 s."""
    problem = ""
    end = time.monotonic() + 90
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return str(json.load(answer)["name"])
        except (urllib.error.URLError, ConnectionError) as error:
            problem = str(error)
            time.sleep(0.2)
    return problem


def curve(after: float, random: float = 0.75) -> AblationCurve:
    """Two counts, two groups, two draws."""
    chosen = np.array([[1.0, 1.0], [after, 0.5]])
    draw = np.array([[1.0, 1.0], [random, 0.875]])
    groups = ["memorized", "clean"]
    return AblationCurve([0, 4], groups, chosen, np.stack([draw, draw]), "effect")


class TestDemo:
    @pytest.mark.parametrize(
        ("n", "counts"),
        [(1, [0, 1]), (2, [0, 1, 2]), (5, [0, 1, 2, 4, 5]), (16, [0, 1, 2, 4, 8, 16])],
    )
    def test_counts_double_up_to_n(self, n: int, counts: list[int]) -> None:
        assert demo.counts_to(n) == counts

    def test_summary_is_the_mean_over_networks(self) -> None:
        assert demo.summary([curve(0.25, random=0.5), curve(0.5, random=1.0)], of=80) == {
            "units": 4,
            "of": 80,
            "memorized": {"before": 1.0, "after": 0.375, "random": 0.75},
            "clean": {"before": 1.0, "after": 0.5, "random": 0.875},
        }

    def test_table_shows_mean_and_range(self) -> None:
        table = demo.table([curve(0.25), curve(0.5)], of=80, seeds=[0, 1], draws=20)
        assert "4 of 80 units" in table
        assert "mean (range) of 2 networks" in table
        assert "0.38 (0.25-0.50)" in table
        assert "mean of 20 draws" in table

    @pytest.mark.slow
    def test_five_percent_of_the_units_hold_the_wrong_labels(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The project's main claim, as a user would check it: the mean of three networks."""
        monkeypatch.chdir(tmp_path)
        assert main(["demo", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert list(found) == ["units", "of", "memorized", "clean", "test"]
        assert found["units"] <= 0.05 * found["of"]
        assert found["memorized"]["before"] == 1.0
        assert found["memorized"]["after"] < 0.5
        assert found["memorized"]["random"] > 0.9
        assert found["clean"]["after"] > 0.9
        assert list(tmp_path.iterdir()) == []

    @pytest.fixture
    def measured(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> list[tuple[list[int], dict[str, object]]]:
        """What was asked for; the answer is a made-up curve, the same for every seed."""
        asked = []

        def measure_all(seeds: list[int], **options: object) -> tuple[list[AblationCurve], int]:
            asked.append((seeds, options))
            return [curve(0.25) for _ in seeds], 80

        monkeypatch.setattr(demo, "measure_all", measure_all)
        return asked

    def test_prints_a_table_and_writes_the_figure(
        self,
        measured: list[tuple[list[int], dict[str, object]]],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["demo", "--seeds", "0", "7", "--units", "4", "--draws", "2"]) == 0
        options = {"units": 4, "draws": 2, "progress": True}
        assert measured == [([0, 7], options)]
        out = capsys.readouterr().out
        assert "Digits: 4 of 80 units ablated" in out
        assert [line.split()[0] for line in out.splitlines()[4:6]] == ["memorized", "clean"]
        assert "python -m memviz lab" in out
        assert Path("memviz-demo.png").read_bytes().startswith(b"\x89PNG")

    def test_json_writes_a_figure_where_one_is_named(
        self,
        measured: list[tuple[list[int], dict[str, object]]],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        figure = tmp_path / "curve.svg"
        assert main(["demo", "--json", "--seeds", "1", "--figure", str(figure)]) == 0
        assert measured == [([1], {"units": None, "draws": 20, "progress": False})]
        assert json.loads(capsys.readouterr().out)["units"] == 4
        assert "<svg" in figure.read_text()

    def test_a_figure_that_cannot_be_written_is_told_before_the_work(
        self, measured: list[tuple[list[int], dict[str, object]]], tmp_path: Path
    ) -> None:
        with pytest.raises(SystemExit, match="--figure: there is no folder .* make it first"):
            main(["demo", "--figure", str(tmp_path / "none" / "curve.png")])
        with pytest.raises(SystemExit, match="--figure: .* is a folder, not a file"):
            main(["demo", "--figure", str(tmp_path)])
        assert not measured

    @pytest.mark.parametrize("seeds", [["0"], ["0", "1"]])
    def test_more_units_than_there_are(self, seeds: list[str]) -> None:
        with pytest.raises(SystemExit, match="--units 320 is too many: this network has 320"):
            main(["demo", "--seeds", *seeds, "--units", "320"])

    @pytest.mark.slow
    def test_in_processes_of_their_own_networks_give_what_they_give_alone(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        curves, of = demo.measure_all([1, 0], units=2, draws=1, progress=False)
        assert capfd.readouterr().err == ""
        assert of == 320
        for curve, seed in zip(curves, [1, 0], strict=True):
            alone, _ = demo.measure(seed, units=2, draws=1, progress=False)
            assert curve.counts == alone.counts
            assert (curve.chosen == alone.chosen).all()
            assert (curve.random == alone.random).all()


class TestPrepare:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int], Path | None]]:
        """Which demo was to prepare what; nothing is trained."""
        calls: list[tuple[str, list[int], Path | None]] = []

        def watch(name: str) -> Callable[[list[int], Path | None], Path]:
            def prepare(seeds: list[int], folder: Path | None) -> Path:
                calls.append((name, seeds, folder))
                return folder or Path("weights")

            return prepare

        for name, module in demos().items():
            if not getattr(module, "BUILT", False):
                monkeypatch.setattr(module, "prepare", watch(name))
        return calls

    def test_trains_into_the_folder(
        self,
        asked: list[tuple[str, list[int], Path | None]],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        only = ["prepare", "--again", "--only", "digits"]
        assert main([*only, "--seeds", "0", "2", "--folder", str(tmp_path)]) == 0
        assert main(only) == 0
        assert asked == [("digits", [0, 2], tmp_path), ("digits", [0, 1, 2], None)]
        assert capsys.readouterr().out == (
            f"digits: seeds 0, 2, about 1 min on two cores.\nWrote {tmp_path}\n"
            "digits: seeds 0, 1, 2, about 2 min on two cores.\nWrote weights\n"
        )

    def test_every_demo_that_is_found_is_prepared_and_says_its_time_first(
        self,
        asked: list[tuple[str, list[int], Path | None]],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert main(["prepare", "--again"]) == 0
        found = [(name, len(seeds)) for name, seeds, _ in asked]
        built = {name for name, module in demos().items() if getattr(module, "BUILT", False)}
        assert [name for name, _ in found] == sorted(set(demos()) - built)
        assert {("digits", 3), ("early_learning", 3), ("encoders", 1)} <= set(found)
        lines = capsys.readouterr().out.splitlines()
        assert all("min on two cores." in line for line in lines[: len(found)])
        assert lines[len(found) :] == ["Wrote weights"] * len(found)

    def test_only_may_be_repeated(self, asked: list[tuple[str, list[int], Path | None]]) -> None:
        names = ["scenes", "digits", "scenes"]
        assert (
            main(["prepare", "--again", *(word for name in names for word in ("--only", name))])
            == 0
        )
        assert [name for name, _, _ in asked] == ["scenes", "digits"]

    def test_an_unknown_demo_is_answered_with_the_known(self) -> None:
        with pytest.raises(SystemExit, match=r"no demo 'contest' to prepare; .*digits, early"):
            main(["prepare", "--again", "--only", "digits", "--only", "contest"])


class TestMakeReady:
    @pytest.fixture
    def read(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
        """Which demos were read; one of them keeps a file, as a training would."""
        names: list[str] = []

        def reader(name: str) -> Callable[[], None]:
            def keep() -> None:
                names.append(name)
                if name == "families":
                    (tmp_path / "cache" / "families.safetensors").write_bytes(b"kept")

            return keep

        for name, module in registry.load("demos").items():
            if name in demos() or hasattr(module, "keep"):
                monkeypatch.setattr(module, "keep", reader(name), raising=False)
        monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path / "cache"))
        return names

    def test_everything_that_notebooks_read_is_read_and_said_to_be_ready(
        self, read: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "cache"
        assert found_ready(folder) is None
        assert main(["prepare"]) == 0
        assert set(read) == set(demos()) | {"families"}
        out = capsys.readouterr().out
        assert out.endswith(f"For everybody on this machine, set: MEMVIZ_CACHE={folder}\n")
        assert "Yes, ready without a network: 1 files (0 MB)" in out
        assert found_ready(folder) == 1
        (folder / "families.safetensors").unlink()
        assert found_ready(folder) is None

    def test_a_part_of_it_is_not_everything(
        self, read: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["prepare", "--only", "families"]) == 0
        assert capsys.readouterr().out.endswith("\nYes, ready: families.\n")
        assert read == ["families"]
        assert found_ready(tmp_path / "cache") is None

    def test_what_cannot_be_loaded_is_named(
        self,
        read: list[str],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def damaged() -> None:
            raise ValueError("The weights that come with memviz can't be used; install it again.")

        monkeypatch.setattr(registry.load("demos")["gates"], "keep", damaged, raising=False)
        assert main(["prepare"]) == 1
        out = capsys.readouterr().out
        assert "gates           no: The weights that come with memviz can't be used" in out
        assert "No, not ready: gates." in out
        assert found_ready(tmp_path / "cache") is None

    def test_a_folder_that_cannot_be_written_is_named_before_any_training(
        self, read: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path / "file" / "cache"))
        with pytest.raises(SystemExit, match=r"can't be written: .*; set MEMVIZ_CACHE to a folder"):
            main(["prepare"])
        assert read == []

    def test_a_folder_to_read_is_ready_though_its_list_is_not(
        self,
        read: list[str],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        folder = tmp_path / "cache"
        folder.mkdir()
        (folder / "ready.json").write_text('{"files": []}')

        def refuse(path: Path, *_: int) -> None:
            raise NotWritten(f"{str(path)!r} can't be written: Permission denied")

        monkeypatch.setattr(tensor_files, "check_writable", refuse)
        monkeypatch.setattr(tensor_files, "atomic_write", refuse)
        assert main(["prepare"]) == 0
        out = capsys.readouterr().out
        assert "list of what is ready stays as it was: " in out and "Permission denied." in out
        assert "Yes, ready without a network: 1 files" in out

    @pytest.mark.parametrize("options", [["--seeds", "0"], ["--folder", "trained"]])
    def test_options_of_training_again_want_it(
        self, read: list[str], options: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            main(["prepare", *options])
        assert "--seeds and --folder say what to train again: add --again." in (
            capsys.readouterr().err
        )
        assert read == []


class TestDoctor:
    @pytest.fixture(autouse=True)
    def _installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wanted = ["torch>=2.6", "numpy>=1.26", 'jupyterlab>=4.4; extra == "lab"']
        versions = metadata.version
        monkeypatch.setattr(doctor.metadata, "requires", lambda name: self.wanted)
        monkeypatch.setattr(
            doctor.metadata,
            "version",
            lambda name: "0.1.0" if name == doctor.DISTRIBUTION else versions(name),
        )

    def report(self, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
        code = main(["doctor", "--json"])
        found = json.loads(capsys.readouterr().out)
        assert found["ok"] == (code == 0)
        return {check["name"]: check for check in found["checks"]}

    def test_all_is_well(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["doctor"]) == 0
        out = capsys.readouterr().out
        assert out.endswith("Yes: everything that memviz needs is installed.\n")
        for word in ("python", torch.__version__, "threads", "torchvision", "Chromium", "memory"):
            assert word in out

    def test_json_has_a_line_for_each_check(self, capsys: pytest.CaptureFixture[str]) -> None:
        checks = self.report(capsys)
        assert checks["torch"]["status"] == "ok"
        assert checks["demo weights"]["status"] == "ok"
        assert set(checks["torch"]) == {"name", "value", "status", "cure"}

    def test_a_missing_package_comes_with_its_cure(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.wanted.append("no-such-package>=1")
        assert main(["doctor"]) == 1
        out = capsys.readouterr().out
        assert "missing   no-such-package" in out
        assert 'to fix it: python -m pip install -c constraints.txt -e ".[lab]"' in out
        assert out.endswith("No. Missing: no-such-package.\n")

    def test_an_old_package_is_missing_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.wanted[0] = "torch>=99"
        check = self.report(capsys)["torch"]
        assert check["status"] == "missing"
        assert check["value"].endswith("but memviz needs >=99")

    def test_a_missing_extra_is_no_failure(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.wanted[2] = 'no-such-lab>=1; extra == "lab"'
        assert main(["doctor", "--json"]) == 0
        assert '"name": "no-such-lab", "value": "not installed", "status": "optional"' in (
            capsys.readouterr().out
        )

    def test_a_test_package_is_not_asked_for(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.wanted.append('no-such-tool>=1; extra == "test"')
        assert "no-such-tool" not in self.report(capsys)

    def test_not_installed_at_all(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def requires(name: str) -> list[str]:
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(doctor.metadata, "requires", requires)
        assert self.report(capsys)["memviz"]["status"] == "missing"

    def test_a_torchvision_that_fails(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setitem(sys.modules, "torchvision", None)
        assert self.report(capsys)["import torchvision"]["status"] == "missing"

    def test_front_end_and_files_that_are_not_there(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr("jupyter_core.paths.jupyter_path", lambda *parts: [str(tmp_path)])
        monkeypatch.setattr(doctor, "PACKAGE", tmp_path)
        monkeypatch.setattr(doctor, "notebooks", lambda: tmp_path)
        monkeypatch.setenv("MEMVIZ_CHROMIUM", str(tmp_path / "none"))
        checks = self.report(capsys)
        for name in ("anywidget in Lab", "jupyterlab-widgets in Lab", "Chromium"):
            assert checks[name]["status"] == "optional"
            assert checks[name]["cure"]
        assert checks["demo weights"]["status"] == "missing"
        assert checks["demo weights"]["cure"]
        assert checks["notebooks"]["status"] == "optional"

    def test_a_damaged_weight_file_is_named(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setattr(doctor, "PACKAGE", tmp_path)
        folder = tmp_path / "demos" / "weights"
        folder.mkdir(parents=True)
        save_file({"w": torch.ones(100)}, folder / "good.safetensors")
        save_file({"w": torch.ones(100)}, folder / "bad.safetensors")
        assert self.report(capsys)["demo weights"]["status"] == "ok"
        (folder / "bad.safetensors").write_bytes((folder / "good.safetensors").read_bytes()[:-5])
        check = self.report(capsys)["demo weights"]
        assert (check["status"], check["value"]) == ("missing", "damaged: bad.safetensors")
        assert check["cure"] == "git checkout -- memviz/demos/weights"
        monkeypatch.setattr(lab, "PACKAGE", tmp_path)
        cure = self.report(capsys)["demo weights"]["cure"]
        assert cure.startswith("python -m pip install ") and "-e" not in cure.split()
        assert cure.endswith("--force-reinstall --no-deps")

    def test_a_weight_file_that_was_altered_is_named(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """By one byte of one weight, which any reader takes."""
        folder = tmp_path / "demos" / "weights"
        folder.mkdir(parents=True)
        name = "digits-seed0-epoch60.safetensors"
        content = bytearray((ROOT / "memviz/demos/weights" / name).read_bytes())
        monkeypatch.setattr(doctor, "PACKAGE", tmp_path)
        (folder / name).write_bytes(content)
        assert self.report(capsys)["demo weights"]["status"] == "ok"
        content[-1] ^= 1
        (folder / name).write_bytes(content)
        assert self.report(capsys)["demo weights"]["value"] == f"damaged: {name}"

    def test_a_course_that_is_not_ready_is_told_what_to_run(
        self,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.setenv("MEMVIZ_CACHE", str(tmp_path))
        check = self.report(capsys)["trained for notebooks"]
        assert check["status"] == "optional"
        assert check["cure"].startswith("python -m memviz prepare")
        (tmp_path / "ready.json").write_text('{"files": []}')
        assert self.report(capsys)["trained for notebooks"]["status"] == "ok"

    def test_more_threads_than_cores_and_little_memory_are_told(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(doctor, "cpu_count", lambda: 2)
        monkeypatch.setattr(doctor, "memory_allowed", lambda: 2**29)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
        checks = self.report(capsys)
        assert "64 threads on 2 cores" in checks["torch device"]["value"]
        assert checks["torch device"]["cure"].startswith("set OMP_NUM_THREADS=2")
        assert checks["memory"]["value"].startswith("0.5 GiB for this process; 2 cores")
        assert "mem_limit" in checks["memory"]["cure"]

    @pytest.mark.parametrize(
        ("kept", "gib", "status"),
        [
            (None, 1.5, "ok"),  # the engine keeps as much as there is room for
            (None, 1.4, "optional"),
            ("", 1.5, "optional"),
            ("129", 1.5, "optional"),
            ("128", 1.5, "ok"),
            ("128", 1, "optional"),
        ],
    )
    def test_less_memory_is_enough_where_less_is_kept(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        kept: str | None,
        gib: float,
        status: str,
    ) -> None:
        if kept is None:
            monkeypatch.delenv("MEMVIZ_MEMORY", raising=False)
        else:
            monkeypatch.setenv("MEMVIZ_MEMORY", kept)
        monkeypatch.setattr(doctor, "memory_allowed", lambda: int(gib * 2**30))
        check = self.report(capsys)["memory"]
        assert check["status"] == status
        assert ("MEMVIZ_MEMORY=128" in check["cure"]) == (kept not in (None, "128"))

    @pytest.mark.parametrize("named", [True, False])
    def test_chromium_is_the_named_or_the_first_on_the_path(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: bool
    ) -> None:
        browser = tmp_path / "chromium-browser"
        browser.touch(mode=0o755)
        monkeypatch.delenv("MEMVIZ_CHROMIUM", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path) if not named else "")
        if named:
            monkeypatch.setenv("MEMVIZ_CHROMIUM", str(browser))
        assert doctor.find_chromium() == browser
