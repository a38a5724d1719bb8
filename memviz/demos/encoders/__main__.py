"""Train the encoders and print the figures of their memorization."""

from __future__ import annotations

import sys

from ._recipe import prepare


def main(arguments: list[str]) -> None:
    """Print the figures, train the shipped weights, or run on CIFAR-10."""
    if arguments == ["train"]:
        prepare()
    elif arguments[:1] == ["cifar10"] and len(arguments) == 2:
        from memviz.demos.encoders.cifar10 import report

        report(arguments[1])
    elif arguments:
        raise SystemExit("python -m memviz.demos.encoders [train | cifar10 FOLDER]")
    else:
        from ._measures import print_figures

        print_figures()


if __name__ == "__main__":
    main(sys.argv[1:])
