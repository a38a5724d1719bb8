"""Data sets, readers and augmentations; wrong labels on purpose, with the true ones kept."""

from memviz.data.noisy_labels import replace_labels as replace_labels
