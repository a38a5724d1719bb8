"""Which examples are memorized: scores from recorded trainings, checkpoints and subsets."""

from memviz.statistics import spearman as spearman
from memviz.training.subsets import Recipe as Recipe
from memviz.training.subsets import SubsetTrainings as SubsetTrainings
from memviz.training.subsets import second_split as second_split
from memviz.training.subsets import train_subsets as train_subsets

from ._agreement import agreement as agreement
from ._agreement import auroc as auroc
from ._at_checkpoints import chosen_epochs as chosen_epochs
from ._at_checkpoints import early_epochs as early_epochs
from ._depth import depth_of as depth_of
from ._depth import prediction_depth as prediction_depth
from ._dynamics import area_under_margin as area_under_margin
from ._dynamics import cumulative_loss as cumulative_loss
from ._dynamics import forgetting_events as forgetting_events
from ._dynamics import learning_time as learning_time
from ._dynamics import second_split_forgetting as second_split_forgetting
from ._dynamics import shuffled_null as shuffled_null
from ._feldman import split_half as split_half
from ._gradients import el2n as el2n
from ._gradients import final_loss as final_loss
from ._gradients import grand as grand
from ._gradients import tracin as tracin
from ._gradients import tracin_influence as tracin_influence
from ._input_gradients import loss_curvature as loss_curvature
from ._input_gradients import loss_sensitivity as loss_sensitivity
from ._memorization import influential_pairs as influential_pairs
from ._memorization import leave_one_out as leave_one_out
from ._memorization import subsampled_memorization as subsampled_memorization
from ._of_run import scores_of_checkpoints as scores_of_checkpoints
from ._of_run import scores_of_model as scores_of_model
from ._of_run import scores_of_run as scores_of_run
from ._table import example_table as example_table
from ._table import rank_correlations as rank_correlations
