"""A Study: a model, its examples, and what is known about them."""

from ._examples import check_classes as check_classes
from ._examples import check_examples as check_examples
from ._examples import default_groups as default_groups
from ._examples import has_classes as has_classes
from ._examples import sides as sides
from ._facts import study_facts as study_facts
from ._from_dataset import FromDataset as FromDataset
from ._private import PRIVATE as PRIVATE
from ._private import private as private
from ._private import twin as twin
from ._reader import DatasetInputs as DatasetInputs
from ._reader import UnreadableError as UnreadableError
from ._ready import check_ready as check_ready
from ._study import Study as Study
from ._study import check_study as check_study
from ._suspects import Suspicion as Suspicion
