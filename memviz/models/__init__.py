"""Networks small enough to train, and take apart, on a laptop."""

from memviz.models.convnet import ConvNet as ConvNet
from memviz.models.mlp import MLP as MLP
from memviz.models.resnet9 import ResNet9 as ResNet9
