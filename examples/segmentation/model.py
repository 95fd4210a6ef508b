"""Two segmentation networks: UNet (Ronneberger et al. 2015), BiSeNet (Yu et al. 2018), small."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = ("background", "disc", "square", "triangle")


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class UNet(nn.Module):
    """float32 (batch, 3, H, W) → logits (batch, classes, H, W); H, W: multiples of 2^depth."""

    def __init__(self, classes: int = len(CLASSES), width: int = 8, depth: int = 4) -> None:
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            nn.Sequential(ConvNorm(before, after), ConvNorm(after, after))
            for before, after in zip([3, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(below, above, 2, 2) for above, below in itertools.pairwise(widths)
        )
        self.merge = nn.ModuleList(
            nn.Sequential(ConvNorm(2 * above, above), ConvNorm(above, above))
            for above in widths[:-1]
        )
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x, skips = image, []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else functional.max_pool2d(x, 2))
            skips.append(x)
        for up, merge, skip in zip(
            reversed(self.up), reversed(self.merge), reversed(skips[:-1]), strict=True
        ):
            x = merge(torch.cat([up(x), skip], 1))
        return {"logits": self.head(x)}


class Refined(nn.Module):
    """Attention refinement: each channel weighted by what the whole image says of it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ConvNorm(inputs, outputs)
        self.attention = nn.Sequential(nn.Conv2d(outputs, outputs, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.attention(x.mean((2, 3), keepdim=True))


class BiSeNet(nn.Module):
    """float32 (batch, 3, H, W) → logits (batch, classes, H, W); H, W: multiples of 16.

    A shallow spatial path keeps the details at an eighth of the size, a deep context path sees
    far; both are fused and scaled up.
    """

    def __init__(self, classes: int = len(CLASSES), width: int = 24) -> None:
        super().__init__()
        self.spatial = nn.Sequential(
            ConvNorm(3, width, 7, 2), ConvNorm(width, width, 3, 2), ConvNorm(width, 2 * width, 3, 2)
        )
        self.context = nn.Sequential(
            ConvNorm(3, width, 3, 2),
            ConvNorm(width, width, 3, 2),
            ConvNorm(width, 2 * width, 3, 2),
            ConvNorm(2 * width, 2 * width),
        )
        self.deeper = nn.Sequential(
            ConvNorm(2 * width, 4 * width, 3, 2), ConvNorm(4 * width, 4 * width)
        )
        self.refine8 = Refined(2 * width, 2 * width)
        self.refine16 = Refined(4 * width, 2 * width)
        self.fuse = Refined(4 * width, 2 * width)
        self.head = nn.Sequential(ConvNorm(2 * width, 2 * width), nn.Conv2d(2 * width, classes, 1))

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        eighth = self.context(image)
        sixteenth = self.deeper(eighth)
        far = self.refine16(sixteenth) + sixteenth.mean((2, 3), keepdim=True).mean(1, keepdim=True)
        far = functional.interpolate(far, scale_factor=2, mode="nearest")
        context = self.refine8(eighth) + far
        logits = self.head(self.fuse(torch.cat([self.spatial(image), context], 1)))
        return {
            "logits": functional.interpolate(
                logits, scale_factor=8, mode="bilinear", align_corners=False
            )
        }


def make() -> UNet:
    """The factory of UNet; its weights come from a checkpoint."""
    return UNet()


def make_bisenet() -> BiSeNet:
    """The factory of BiSeNet; its weights come from a checkpoint."""
    return BiSeNet()
