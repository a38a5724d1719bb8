"""Tasks: what makes a model's output right or wrong.

``Classification`` judges logits over classes, ``Binary`` one logit, ``MultiLabel`` one logit per
class, ``Regression`` numbers within a tolerance, ``ImageText`` images and their captions,
``Language`` the continuations of passages, ``Density`` the likelihood of examples without labels.
"""

from memviz.checks import as_numbers as as_numbers
from memviz.tasks.binary import Binary as Binary
from memviz.tasks.classification import Classification as Classification
from memviz.tasks.density import Density as Density
from memviz.tasks.image_text import ImageText as ImageText
from memviz.tasks.language import Language as Language
from memviz.tasks.multi_label import MultiLabel as MultiLabel
from memviz.tasks.regression import Regression as Regression
from memviz.tasks.task import Inputs as Inputs
from memviz.tasks.task import Task as Task
from memviz.tasks.task import are_right as are_right
from memviz.tasks.task import check_labels as check_labels
from memviz.tasks.task import judged as judged
from memviz.tasks.task import lost as lost
