"""Networks small enough to be trained, and taken apart, on a laptop."""

from memviz.models.convnet import ConvNet as ConvNet
