"""ResNet-9: the small residual network of the localization papers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Two 3x3 convolutions of equal width, and a skip around both.

    The skip is added after the second ReLU, not before it.

    Parameters
    ----------
    channels : input, hidden and output channels.

    Examples
    --------
    >>> Residual(4)(torch.zeros(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[n, channels, h, w]`` to the same shape."""
        y: Tensor = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        return x + y


class ResNet9(nn.Module):
    """Eight convolutions, two skips and a linear head, for images of 32x32 or more.

    The layers are ``conv1`` (64 channels), ``conv2`` (128, 5x5, stride 2), ``res1.conv1`` and
    ``res1.conv2`` (128), ``conv3`` (256, then a 2x2 max pool), ``res2.conv1`` and ``res2.conv2``
    (256), ``conv4`` (128, no padding, then the maximum over positions): 1,344 channels, each
    followed by batch norm and ReLU. ``head`` has no bias, and its logits are multiplied by 0.2.
    The layout is that of FFCV's CIFAR-10 example (Leclerc et al. 2023), after KakaoBrain's
    torchskeleton; Maini et al. (2023) localize memorization in it.

    Parameters
    ----------
    classes : number of logits.
    in_channels : the input is ``[n, in_channels, h, w]``, with sides of 9 pixels or more.
    seed : fixes the initial weights without the global generator; None draws from it.

    Raises
    ------
    ValueError : a size is not positive.

    Examples
    --------
    >>> model = ResNet9(seed=0).eval()
    >>> model(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 10])
    """

    def __init__(self, classes: int = 10, in_channels: int = 3, seed: int | None = None) -> None:
        super().__init__()
        if min(classes, in_channels) < 1:
            raise ValueError(
                f"ResNet9 takes positive sizes, but got classes={classes}, "
                f"in_channels={in_channels}."
            )
        # fork_rng puts the global generator back, so building a model changes no other draw.
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            self._build(classes, in_channels)

    def _build(self, classes: int, in_channels: int) -> None:
        # Batch norm subtracts the mean, so a bias before it would do nothing.
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(64, 128, 5, stride=2, padding=2, bias=False)
        self.bn2 = nn.BatchNorm2d(128)
        self.relu2 = nn.ReLU()
        self.res1 = Residual(128)
        self.conv3 = nn.Conv2d(128, 256, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(256)
        self.relu3 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.res2 = Residual(256)
        self.conv4 = nn.Conv2d(256, 128, 3, bias=False)
        self.bn4 = nn.BatchNorm2d(128)
        self.relu4 = nn.ReLU()
        self.head = nn.Linear(128, classes, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``[n, in_channels, h, w]`` to logits ``[n, classes]``."""
        x = self.relu1(self.bn1(self.conv1(images)))
        x = self.res1(self.relu2(self.bn2(self.conv2(x))))
        x = self.res2(self.pool(self.relu3(self.bn3(self.conv3(x)))))
        x = self.relu4(self.bn4(self.conv4(x)))
        # The head has no bias: scaling its input scales the logits, which stay its own output.
        logits: Tensor = self.head(0.2 * x.amax((2, 3)))
        return logits
