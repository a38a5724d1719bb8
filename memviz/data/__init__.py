"""What a network is made to memorize, with the truth kept."""

from memviz.data.noisy_labels import replace_labels as replace_labels
