"""The command line: ``python -m memviz lab | demo | report | prepare | doctor``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

START = "00_start_here.ipynb"

ABOUT = """\
See, find and switch off memorization in neural networks.

  python -m memviz lab        opens JupyterLab with the first notebook: start here
  python -m memviz demo       the same without a browser: a table and a figure
  python -m memviz report     writes one page to send: what was found, with a view that works
  python -m memviz prepare    makes ready what the notebooks read, so that no seat waits for it
  python -m memviz doctor     says what is installed, what is missing and how to fix it
"""

LAB = """\
examples:
  python -m memviz lab                                the first notebook
  python -m memviz lab 01_bring_your_own_model        another shipped notebook, by name
  python -m memviz lab ~/mine.ipynb                   your own notebook
  python -m memviz lab --no-browser --port 8899       on a server: open the printed address
  python -m memviz lab --in-place                     for authors: the tracked file of a clone
  python -m memviz lab -- --log-level=DEBUG           everything after -- goes to JupyterLab
"""

DEMO = """\
A small network has memorized 1,200 handwritten digits, 120 of them with wrong labels. Each unit is
ablated alone (its activation set to zero) to measure its exact effect: how far the margin falls on
memorized examples, minus how far it falls on clean ones. Then the units with the largest effects
are ablated together, and for comparison the same number of random units of the same layers.

examples:
  python -m memviz demo                               5 % of the units, mean of three seeds
  python -m memviz demo --units 8 --seeds 0           8 units, one network
  python -m memviz demo --figure curve.pdf            another file name and format
  python -m memviz demo --json                        one JSON object; no figure unless named
"""

REPORT = """\
One offline page to send to a colleague: which examples are memorized and by which scores, which
units hold them, the curve against random units on examples that had no part in the choice, what it
costs in test accuracy, and a view that switches single units without Python. Every figure has its
table as CSV in the page.

examples:
  python -m memviz report                             the digits, about half a minute
  python -m memviz report scenes --file scenes.html   another ready study, by name
  python -m memviz report mine:study                  your own: a Study, or a function that makes
                                                      one, in mine.py of the current folder
"""

PREPARE = """\
For whoever gives a course, once a machine: loads every network that the notebooks read, trains
those that are too many to ship, at most five minutes on one core, and keeps them in the cache
folder (MEMVIZ_CACHE to choose it). Nothing is downloaded. Exit status 0: all is ready.

With --again the shipped networks themselves are trained again from their recipes, and replaced
unless you name a folder. How long each takes is printed first; all together take about a quarter of
an hour on two cores.

examples:
  python -m memviz prepare
  MEMVIZ_CACHE=/srv/memviz python -m memviz prepare
  python -m memviz prepare --again --only digits --only scenes
  python -m memviz prepare --again --only digits --seeds 0 --folder trained
"""

DOCTOR = """\
Exit status 0: yes, everything that memviz needs is installed. 1: something is missing; the line
below it gives the command that fixes it. The library itself needs neither JupyterLab nor Chromium.

examples:
  python -m memviz doctor
  python -m memviz doctor --json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Parameters
    ----------
    argv : the arguments after ``python -m memviz``; by default those of the process.

    Raises
    ------
    SystemExit
        With one sentence, if an argument is wrong or something is missing.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    # Split here: argparse would mix everything after "--" with the command's own arguments.
    cut = given.index("--") if "--" in given else len(given)
    parser = _parser()
    arguments = parser.parse_args(given[:cut])
    if given[cut + 1 :] and arguments.command != "lab":
        parser.error("only the command lab takes arguments after --.")

    # Each command imports what it needs: --help and doctor must not wait for pandas and plots.
    if arguments.command == "lab":
        from memviz.cli.lab import lab

        return lab(
            arguments.notebook,
            browser=not arguments.no_browser,
            port=arguments.port,
            in_place=arguments.in_place,
            extra=given[cut + 1 :],
        )
    if arguments.command == "demo":
        from memviz.cli.demo import demo

        return demo(
            arguments.seeds,
            units=arguments.units,
            draws=arguments.draws,
            figure=arguments.figure,
            as_json=arguments.json,
        )
    if arguments.command == "report":
        from memviz.cli.report import report

        return report(
            arguments.study,
            arguments.file,
            study_seed=arguments.study_seed,
            units=arguments.units,
            draws=arguments.draws,
            seed=arguments.seed,
        )
    if arguments.command == "prepare":
        from memviz.cli.prepare import prepare, train_again

        if arguments.again:
            return train_again(arguments.seeds, only=arguments.only, folder=arguments.folder)
        if arguments.seeds is not None or arguments.folder is not None:
            parser.error("--seeds and --folder say what to train again: add --again.")
        return prepare(arguments.only)
    from memviz.cli.doctor import doctor

    return doctor(as_json=arguments.json)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m memviz", description=ABOUT, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def command(name: str, summary: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=summary, description=summary[0].upper() + summary[1:] + ".", epilog=text,
            formatter_class=raw,
        )  # fmt: skip

    lab = command("lab", "open JupyterLab at a notebook", LAB)
    lab.add_argument(
        "notebook", nargs="?", default=START, help=f"a path or a shipped notebook's name ({START})"
    )
    lab.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    lab.add_argument(
        "--in-place", action="store_true", help="open a shipped notebook itself, not a copy of it"
    )
    lab.add_argument("--port", type=int, help="port to listen on (JupyterLab's own: 8888)")

    demo = command(
        "demo", "ablate the units that hold what was memorized, print what is lost", DEMO
    )
    _seeds(demo, [0, 1, 2], "one network each (0 1 2)")
    demo.add_argument("--units", type=_whole(1), help="how many units to ablate (5 %% of them all)")
    demo.add_argument("--draws", type=_whole(1), default=20, help="draws of random units (20)")
    demo.add_argument("--figure", type=Path, help="where to write it (memviz-demo.png)")
    demo.add_argument("--json", action="store_true", help="print one JSON object, nothing else")

    report = command("report", "write one page to send to a colleague", REPORT)
    report.add_argument(
        "study", nargs="?", default="digits", help="a ready study, or MODULE:NAME (digits)"
    )
    report.add_argument(
        "--file", type=Path, default=Path("memviz-report.html"), help="(memviz-report.html)"
    )
    report.add_argument("--study-seed", type=_whole(0), default=0, help="of a ready study (0)")
    report.add_argument("--units", type=_whole(1), help="how many to ablate (5 %% of them all)")
    report.add_argument("--draws", type=_whole(1), help="draws of random units (20; scenes 5)")
    report.add_argument("--seed", type=_whole(0), default=0, help="of draws and halves (0)")

    prepare = command("prepare", "make ready what the notebooks read", PREPARE)
    prepare.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="this demo; may be repeated"
    )
    prepare.add_argument("--again", action="store_true", help="train what ships with memviz again")
    _seeds(prepare, None, "with --again: one training each (those that ship)")
    prepare.add_argument(
        "--folder", type=Path, help="with --again: where to write (over the shipped weights)"
    )

    doctor = command("doctor", "say what is installed, what is missing and how to fix it", DOCTOR)
    doctor.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    return parser


def _seeds(command: argparse.ArgumentParser, default: list[int] | None, words: str) -> None:
    command.add_argument(
        "--seeds", type=_whole(0), nargs="+", default=default, metavar="SEED", help=words
    )


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} up.")
        return int(text)

    return parse


if __name__ == "__main__":
    sys.exit(main())
