"""Plain training loops that remember how each example was learned."""

from memviz.training.loop import TrainingRun as TrainingRun
from memviz.training.loop import train as train
