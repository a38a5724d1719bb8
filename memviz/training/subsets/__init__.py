"""Many trainings on parts of a study, spread by joblib."""

from ._fingerprint import fingerprint as fingerprint
from ._folder import TrainingFolder as TrainingFolder
from ._pairs import train_pairs as train_pairs
from ._recipe import Recipe as Recipe
from ._recipe import second_split as second_split
from ._spread import Training as Training
from ._spread import spread as spread
from ._trainings import Fit as Fit
from ._trainings import SubsetTrainings as SubsetTrainings
from ._trainings import run_tasks as run_tasks
from ._trainings import train_subsets as train_subsets
from ._trainings import training_pool as training_pool
