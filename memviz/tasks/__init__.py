"""Tasks: what makes a model's output right or wrong."""

from memviz.tasks.classification import Classification as Classification
from memviz.tasks.image_text import ImageText as ImageText
from memviz.tasks.task import Inputs as Inputs
from memviz.tasks.task import Task as Task
