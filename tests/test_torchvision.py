"""The import shim, each time in a fresh Python: what it does is done once a process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import torch

ROOT = Path(__file__).parents[1]

# The shim alone, without the rest of memviz, so that nothing else imports torch.
ALONE = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("shim", sys.argv[1])
shim = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shim)
shim.install()
"""
STATE = 'print(hasattr(torch.ops.torchvision, "nms"), shim.mended())'


def run(code: str, *folders: Path) -> str:
    """The output of `code` in a fresh Python that must stay silent on stderr."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*folders, ROOT]))}
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "memviz" / "_torchvision.py")],
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A folder with an empty package called torchvision."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").touch()
    return tmp_path


def test_torchvision_builds_a_model_after_import_memviz() -> None:
    code = "import memviz, torchvision; print(torchvision.models.resnet18().fc.out_features)"
    assert run(code) == "1000"


def test_open_clip_imports_after_import_memviz() -> None:
    assert run("import memviz, open_clip; print(open_clip.create_model.__name__)") == "create_model"


def test_install_does_not_import_torch() -> None:
    assert run(ALONE + 'print("torch" in sys.modules, "torchvision" in sys.modules)') == (
        "False False"
    )


def test_other_imports_are_left_alone() -> None:
    assert run(ALONE + 'import json, PIL; print("torch" in sys.modules)') == "False"


def test_installing_twice_watches_once() -> None:
    code = "shim.install(); print(sum(type(f).__name__ == '_Finder' for f in sys.meta_path))"
    assert run(ALONE + code) == "1"


def test_nothing_to_do_once_torchvision_is_imported(fake: Path) -> None:
    before = "import torchvision\n"
    after = "print(any(type(f).__name__ == '_Finder' for f in sys.meta_path))"
    assert run(before + ALONE + after, fake) == "False"


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_only_linux_is_watched(platform: str) -> None:
    code = ALONE.replace("shim.install()", f'sys.platform = "{platform}"; shim.install()')
    after = "print(any(type(f).__name__ == '_Finder' for f in sys.meta_path))"
    assert run(code + after) == "False"


def test_no_extension_means_nothing_to_mend(fake: Path) -> None:
    assert run(ALONE + "import torchvision, torch\n" + STATE, fake) == "False False"


@pytest.mark.skipif(sys.platform != "linux", reason="the shim watches on Linux only")
class TestExtension:
    """Fake packages with a `_C.so` that loads, or does not."""

    cpu_only = pytest.mark.skipif(
        bool(torch.version.cuda or torch.version.hip), reason="needs a CPU-only torch"
    )

    @pytest.mark.parametrize("name", ["_C.so", "_C_stable.so"])
    def test_one_that_loads_is_trusted(self, fake: Path, name: str) -> None:
        folder = Path(safetensors.__file__).parent
        shutil.copy(next(folder.glob("_safetensors_rust*.so")), fake / "torchvision" / name)
        assert run(ALONE + "import torchvision, torch\n" + STATE, fake) == "False False"

    @cpu_only
    @pytest.mark.parametrize("name", ["_C.so", "_C_stable.so"])
    def test_one_that_does_not_load_is_mended_and_stays_so(self, fake: Path, name: str) -> None:
        (fake / "torchvision" / name).write_bytes(b"not a library")
        code = ALONE + "import torchvision, torch, gc; gc.collect()\n" + STATE
        assert run(code, fake) == "True True"

    @cpu_only
    def test_operators_that_exist_are_not_defined_again(self, fake: Path) -> None:
        (fake / "torchvision" / "_C.so").write_bytes(b"not a library")
        code = (
            "import torch; kept = torch.library.Library('torchvision', 'FRAGMENT')\n"
            "kept.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        )
        assert run(code + ALONE + "import torchvision\n" + STATE, fake) == "True True"

    def test_a_gpu_build_of_torch_is_left_alone(self, fake: Path) -> None:
        (fake / "torchvision" / "_C.so").write_bytes(b"not a library")
        code = ALONE + "import torch; torch.version.cuda = '13.0'; import torchvision\n" + STATE
        assert run(code, fake) == "False False"
