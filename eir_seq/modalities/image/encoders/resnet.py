"""ResNet (https://arxiv.org/abs/1512.03385), with the tensor names of torchvision, so that its weights load."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from eir_seq.errors import Fault, UserError
from eir_seq.modalities.image.encoders.base import ImageEncoder, Published, feature_states, load_exactly, weights_of
from eir_seq.modalities.image.encoders.config import ResNetOptions
from eir_seq.modalities.pictures import BILINEAR, Scaling
from eir_seq.models.output import TokenStates

STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""Blocks of each stage by depth."""
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""Of each channel over ImageNet, by which pictures were standardized for the published weights."""
SIZE, EDGE = 224, 256


class Block(nn.Module):
    """Two convolutions around a residual sum; or a bottleneck of three, in torchvision's variant: the 3 x 3 strides."""

    downsample: nn.Module | None

    def __init__(self, channels: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        out = 4 * width if bottleneck else width
        if bottleneck:
            self.conv1, self.bn1 = _convolution(channels, width, 1, 1), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = _convolution(width, width, 3, stride), nn.BatchNorm2d(width)
            self.conv3, self.bn3 = _convolution(width, out, 1, 1), nn.BatchNorm2d(out)
        else:
            self.conv1, self.bn1 = _convolution(channels, width, 3, stride), nn.BatchNorm2d(width)
            self.conv2, self.bn2 = _convolution(width, width, 3, 1), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.bottleneck = bottleneck
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(_convolution(channels, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, out, height / stride, width / stride)."""
        found = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            found = self.bn3(self.conv3(self.relu(found)))
        summed: Tensor = self.relu(found + (x if self.downsample is None else self.downsample(x)))
        return summed


class ResNet(ImageEncoder):
    """Four stages of residual blocks; the vector is the mean over the last feature map.

    Example:
        >>> import torch
        >>> encoder = ResNet(ResNetOptions(depth=18), channels=3).eval()
        >>> encoder.read(pixel_values=torch.zeros(1, 3, 64, 64)).states.shape
        torch.Size([1, 4, 512])
    """

    def __init__(self, options: ResNetOptions, channels: int, shape: tuple[int, int] | None = None) -> None:
        super().__init__()
        del shape  # any will do
        bottleneck = options.depth >= 50
        small = options.stem == "small"
        self.conv1 = _convolution(channels, 64, 3 if small else 7, 1 if small else 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
        channels = 64
        for number, count in enumerate(STAGES[options.depth]):
            width, blocks = 64 * 2**number, []
            for place in range(count):
                stride = 2 if place == 0 and number > 0 else 1
                blocks.append(Block(channels, width, stride, bottleneck=bottleneck))
                channels = 4 * width if bottleneck else width
            setattr(self, f"layer{number + 1}", nn.Sequential(*blocks))
        self.depth, self.state_size, self.output_size = options.depth, channels, channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @classmethod
    def published(cls, model: Any, channels: int, place: str) -> Published:
        """Pictures as ImageNet's were prepared; raises `UserError` where the input has other channels."""
        if model.weights is None:
            return Published()
        check_channels(channels, 3, f"{place}.weights")
        return Published(Scaling(SIZE, 3, "crop", EDGE, BILINEAR), (MEAN, STD))

    def load_published(self, weights: str, place: str) -> None:
        """Load a file of torchvision's, but for the classifier."""
        kind = f"a ResNet of depth {self.depth}"
        load_exactly(self, weights_of(weights), f"{place}.weights", weights, kind=kind, spare=("fc.*",))

    def read(self, *, pixel_values: Tensor) -> TokenStates:  # type: ignore[override]  # the tensor by name
        """The last feature map, place by place.

        Args:
            pixel_values: (batch, channels, height, width).
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(pixel_values))))
        for number in range(4):
            x = getattr(self, f"layer{number + 1}")(x)
        return feature_states(x)

    def pool_tokens(self, tokens: TokenStates) -> Tensor:
        """The mean over the places, (batch, output_size)."""
        return tokens.states.mean(dim=1)


def check_channels(channels: int, wanted: int, place: str) -> None:
    """Raises `UserError` where an input has other channels than published weights read."""
    if channels != wanted:
        modes = {1: "L", 3: "RGB", 4: "RGBA"}
        hint = f"set mode: {modes[wanted]}" if wanted in modes else "no mode fits"
        hint += ", which gives gray pictures three equal channels" if wanted == 3 else ""
        message = f"read {wanted} channels, mode {modes[channels]} has {channels}; {hint}"
        raise UserError(Fault(place, message))


def _convolution(channels: int, out: int, kernel: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False)
