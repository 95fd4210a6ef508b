"""DeepLabV3 (Chen et al. 2017) on MobileNetV3, as torchvision has it, for the drawn shapes."""

from __future__ import annotations

import contextlib

import torch
from model import CLASSES
from torch import Tensor, nn

with contextlib.suppress(RuntimeError):  # declared already
    # A CPU build of torch lacks the operators that torchvision's wheel expects.
    LIBRARY = torch.library.Library("torchvision", "DEF")
    LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large


class DeepLab(nn.Module):
    """float32 (batch, 3, H, W) → logits (batch, classes, H, W)."""

    def __init__(self, classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.net = deeplabv3_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=classes
        )
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.1  # torchvision's 0.01 needs thousands of steps

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(image)["out"]}


def make() -> DeepLab:
    """The factory; its weights come from a checkpoint."""
    return DeepLab()
