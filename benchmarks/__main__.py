"""Run one benchmark, or all of them.

python -m benchmarks sweep --model resnet9     one
python -m benchmarks --out results             all, their JSON in a folder
python -m benchmarks page results              docs/performance.md from that folder
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
# Files that can be run; the others are what these are made of.
COMMANDS = tuple(
    path.stem
    for path in sorted(HERE.glob("[!_]*.py"))
    if "\ndef main(" in path.read_text(encoding="utf-8")
)
# Commands that are run with these arguments, under these names; all others run once, without any.
SETTINGS = {
    "sweep": {
        "sweep-resnet9": ["--model", "resnet9"],
        "sweep-resnet18": ["--model", "resnet18"],
        "sweep-vit": ["--model", "vit"],
        "sweep-mlp": ["--model", "mlp", "--whole"],
    },
    "toggle": {
        "toggle-digits": ["--model", "digits"],
        "toggle-resnet9": ["--model", "resnet9"],
    },
    "page": {},  # it writes what the others have measured
    "interrupts": {},  # it looks for faults, too
    "cluster": {},  # so does it, on a cluster of its own
    "hundredfold": {},  # its slopes stand in docs/scale.md
    "notebooks": {},  # its table stands in docs/course/teaching.md
    "soak": {},  # it looks for faults and measures no speed
}
# Each in a process of its own, so that none finds another's memory.
EVERYTHING = {
    name: [command, *arguments]
    for command in COMMANDS
    for name, arguments in SETTINGS.get(command, {command: []}).items()
}


def run_all(folder: Path, only: Sequence[str] = tuple(EVERYTHING)) -> list[str]:
    """Run benchmarks one after another, write their JSON, return the names of failures."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in only:
        arguments = [*EVERYTHING[name], "--json"]
        print(f"{name} ...", flush=True)
        command = [sys.executable, "-m", "benchmarks", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            failed.append(name)
            continue
        (folder / f"{name}.json").write_text(done.stdout, encoding="utf-8")
    return failed


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command, or everything."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] in COMMANDS:
        module = importlib.import_module(f"benchmarks.{given[0]}")
        module.main(given[1:])
        return
    words = argparse.RawDescriptionHelpFormatter
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=words,
        epilog="commands: " + ", ".join(COMMANDS),
    )
    arguments.add_argument("--out", type=Path, metavar="FOLDER", help="keeps the JSON")
    arguments.add_argument("--only", nargs="+", choices=list(EVERYTHING), default=list(EVERYTHING))
    chosen = arguments.parse_args(given)
    folder = chosen.out or Path(tempfile.mkdtemp(prefix="memviz-benchmarks-"))
    failed = run_all(folder, chosen.only)
    print(f"results in {folder}")
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
