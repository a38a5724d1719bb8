"""Training that can be watched: a plain loop, and a recorder for any other."""

from memviz.training.checkpoints import load_checkpoint as load_checkpoint
from memviz.training.example_tied_dropout import ExampleTiedDropout as ExampleTiedDropout
from memviz.training.example_tied_dropout import example_ids as example_ids
from memviz.training.example_tied_dropout import (
    insert_example_tied_dropout as insert_example_tied_dropout,
)
from memviz.training.loaders import WithIds as WithIds
from memviz.training.loop import train as train
from memviz.training.recorder import Recorder as Recorder
from memviz.training.run import TrainingRun as TrainingRun
