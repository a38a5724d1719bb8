"""A plain convolutional network whose layers are easy to name."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvNet(nn.Module):
    """Four convolutions and one hidden linear layer, for small square images.

    The layers to ablate are ``conv1`` to ``conv4`` and ``fc``; ``head`` gives the logits.
    Each convolution is 3x3 and is followed by its own ``bn`` and ``relu`` module, so that a
    hook fits after any of them. A 2x2 max pool follows ``conv2`` and ``conv4``.

    Parameters
    ----------
    channels : output channels of the four convolutions.
    hidden : units of ``fc``.
    classes : number of logits.
    in_channels, image_size : the input is ``[n, in_channels, image_size, image_size]``.
    seed : fixes the initial weights without the global generator; None draws from it.

    Raises
    ------
    ValueError : a size is not positive, or the image can't be halved twice.

    Examples
    --------
    >>> model = ConvNet(seed=0)
    >>> model(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int] = (32, 32, 64, 64),
        hidden: int = 128,
        classes: int = 10,
        in_channels: int = 1,
        image_size: int = 8,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if len(channels) != 4 or min(*channels, hidden, classes, in_channels) < 1:
            raise ValueError(
                f"ConvNet takes four positive channel counts and positive sizes, but got "
                f"channels={channels}, hidden={hidden}, classes={classes}, "
                f"in_channels={in_channels}."
            )
        if image_size < 4 or image_size % 4:
            raise ValueError(
                f"ConvNet halves the image twice, so image_size must be a multiple of 4, "
                f"but got {image_size}; pad or crop the images."
            )
        # fork_rng puts the global generator back, so building a model changes no other draw.
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
            self._build(channels, hidden, classes, in_channels, image_size)

    def _build(
        self,
        channels: tuple[int, int, int, int],
        hidden: int,
        classes: int,
        in_channels: int,
        image_size: int,
    ) -> None:
        c1, c2, c3, c4 = channels
        # Batch norm subtracts the mean, so a bias before it would do nothing.
        self.conv1 = nn.Conv2d(in_channels, c1, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(c1, c2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c2)
        self.relu2 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv3 = nn.Conv2d(c2, c3, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(c3)
        self.relu3 = nn.ReLU()
        self.conv4 = nn.Conv2d(c3, c4, 3, padding=1, bias=False)
        self.bn4 = nn.BatchNorm2d(c4)
        self.relu4 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(c4 * (image_size // 4) ** 2, hidden)
        self.relu5 = nn.ReLU()
        self.head = nn.Linear(hidden, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``[n, in_channels, size, size]`` to logits ``[n, classes]``."""
        x = self.relu1(self.bn1(self.conv1(images)))
        x = self.pool1(self.relu2(self.bn2(self.conv2(x))))
        x = self.relu3(self.bn3(self.conv3(x)))
        x = self.pool2(self.relu4(self.bn4(self.conv4(x))))
        x = self.relu5(self.fc(self.flatten(x)))
        logits: Tensor = self.head(x)
        return logits
