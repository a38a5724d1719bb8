"""Networks small enough to be trained, and taken apart, on a laptop."""

from memviz.models.convnet import ConvNet as ConvNet
from memviz.models.mlp import MLP as MLP
from memviz.models.resnet9 import ResNet9 as ResNet9
