"""Small networks of the kinds that users bring: faithful in how they are wired, a few thousand weights each.

Every class takes `(classes, channels, size)`, so that each is a factory for the model `external`. The images
are square, of 16 pixels and more (`size` divisible by 4).
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from bitleak.core.types import ModelSpec
from bitleak.models import build

SIZE, CLASSES, CHANNELS = 16, 10, 3


class PreActivation(nn.Module):
    """Batch norm and ReLU before each convolution (He et al. 2016, arXiv 1603.05027, figure 4e)."""

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.bn1, self.conv1 = (
                nn.BatchNorm2d(inputs),
                nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            )
            self.bn2, self.conv2 = (
                nn.BatchNorm2d(outputs),
                nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            )
            self.changes = stride > 1 or inputs != outputs
            if self.changes:
                self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

        def forward(self, maps: Tensor) -> Tensor:
            active = F.relu(self.bn1(maps))
            short = self.shortcut(active) if self.changes else maps
            return short + self.conv2(F.relu(self.bn2(self.conv1(active))))

    def __init__(self, classes: int = CLASSES, channels: int = CHANNELS, size: int = SIZE) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1, bias=False)
        shapes = [(8, 8, 1), (8, 12, 2), (12, 16, 2)]
        self.blocks = nn.Sequential(*(self.Block(*shape) for shape in shapes))
        self.bn, self.head = nn.BatchNorm2d(16), nn.Linear(16, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.relu(self.bn(self.blocks(self.stem(images)))).mean((2, 3)))


class DenseNet(nn.Module):
    """Each layer reads the maps of all before it (Huang et al. 2017, arXiv 1608.06993, DenseNet-BC)."""

    class Layer(nn.Module):
        def __init__(self, inputs: int, growth: int) -> None:
            super().__init__()
            self.bn1, self.narrow = (
                nn.BatchNorm2d(inputs),
                nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            )
            self.bn2, self.conv = (
                nn.BatchNorm2d(4 * growth),
                nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
            )

        def forward(self, maps: Tensor) -> Tensor:
            return torch.cat(
                [maps, self.conv(self.bn2(self.narrow(self.bn1(maps).relu())).relu())], 1
            )

    def __init__(
        self, classes: int = CLASSES, channels: int = CHANNELS, size: int = SIZE, growth: int = 4
    ) -> None:
        super().__init__()
        width = 2 * growth
        steps: list[nn.Module] = [nn.Conv2d(channels, width, 3, 2, 1, bias=False)]
        for block in range(2):
            steps += [self.Layer(width + growth * number, growth) for number in range(3)]
            width += 3 * growth
            if block == 0:  # the transition
                norm, narrow = nn.BatchNorm2d(width), nn.Conv2d(width, width // 2, 1, bias=False)
                steps += [norm, nn.ReLU(), narrow, nn.AvgPool2d(2)]
                width //= 2
        self.features = nn.Sequential(*steps, nn.BatchNorm2d(width))
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(F.relu(self.features(images)), 1).flatten(1))


class InvertedResidual(nn.Module):
    """Inverted residuals with squeeze and excitation: MobileNetV3 (arXiv 1905.02244), EfficientNet (1905.11946).

    The first blocks use ReLU, the next hard-swish with a hard sigmoid as gate, the last SiLU with a sigmoid.
    """

    class Gate(nn.Module):
        def __init__(self, channels: int, inner: int, gate: nn.Module) -> None:
            super().__init__()
            self.down, self.up, self.gate = (
                nn.Conv2d(channels, inner, 1),
                nn.Conv2d(inner, channels, 1),
                gate,
            )

        def forward(self, maps: Tensor) -> Tensor:
            return maps * self.gate(self.up(F.relu(self.down(F.adaptive_avg_pool2d(maps, 1)))))

    class Block(nn.Module):
        def __init__(
            self, inputs: int, outputs: int, kernel: int, stride: int, active: nn.Module
        ) -> None:
            super().__init__()
            wide = 3 * inputs
            gate = nn.Sigmoid() if isinstance(active, nn.SiLU) else nn.Hardsigmoid()
            self.body = nn.Sequential(
                *(nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), active),
                nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False),
                *(
                    nn.BatchNorm2d(wide),
                    active,
                    InvertedResidual.Gate(wide, max(4, wide // 4), gate),
                ),
                *(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
            )
            self.adds = stride == 1 and inputs == outputs

        def forward(self, maps: Tensor) -> Tensor:
            return maps + self.body(maps) if self.adds else self.body(maps)

    def __init__(self, classes: int = CLASSES, channels: int = CHANNELS, size: int = SIZE) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish()
        )
        self.blocks = nn.Sequential(
            self.Block(8, 8, 3, 1, nn.ReLU()),
            self.Block(8, 12, 5, 2, nn.Hardswish()),
            self.Block(12, 12, 3, 1, nn.SiLU()),
        )
        self.last = nn.Sequential(
            nn.Conv2d(12, 24, 1, bias=False), nn.BatchNorm2d(24), nn.Hardswish()
        )
        self.head = nn.Sequential(
            nn.Linear(24, 24), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(24, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.last(self.blocks(self.stem(images))).mean((2, 3)))


class ConvNeXt(nn.Module):
    """Depthwise 7x7 convolutions, layer norm, layers on channels-last maps (Liu et al. 2022, arXiv 2201.03545)."""

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.depthwise, self.norm = (
                nn.Conv2d(width, width, 7, padding=3, groups=width),
                nn.LayerNorm(width),
            )
            self.expand, self.project = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            self.scale = nn.Parameter(torch.full((width,), 0.5))

        def forward(self, maps: Tensor) -> Tensor:
            inner = self.norm(self.depthwise(maps).permute(0, 2, 3, 1))
            return maps + (self.scale * self.project(F.gelu(self.expand(inner)))).permute(
                0, 3, 1, 2
            )

    class Norm(nn.LayerNorm):
        def forward(self, maps: Tensor) -> Tensor:
            return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def __init__(self, classes: int = CLASSES, channels: int = CHANNELS, size: int = SIZE) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 2, 2), self.Norm(8))
        self.first = nn.Sequential(self.Block(8), self.Block(8))
        self.down = nn.Sequential(self.Norm(8), nn.Conv2d(8, 12, 2, 2))
        self.second = nn.Sequential(self.Block(12), self.Block(12))
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(
            self.norm(self.second(self.down(self.first(self.stem(images)))).mean((-2, -1)))
        )


class Attention(nn.Module):
    """Multi-head self-attention with one linear layer for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        )
        weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))


class FunctionalAttention(nn.Module):
    """The same by PyTorch's module, which never calls its output layer as a module."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


class VisionTransformer(nn.Module):
    """Patches, a class token, position embeddings, pre-norm blocks (Dosovitskiy et al. 2021, arXiv 2010.11929)."""

    attention: type[nn.Module] = Attention

    class Block(nn.Module):
        def __init__(self, width: int, attention: nn.Module) -> None:
            super().__init__()
            self.norm1, self.attention, self.norm2 = (
                nn.LayerNorm(width),
                attention,
                nn.LayerNorm(width),
            )
            self.mlp = nn.Sequential(
                nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
            )

        def forward(self, tokens: Tensor) -> Tensor:
            tokens = tokens + self.attention(self.norm1(tokens))
            return tokens + self.mlp(self.norm2(tokens))

    def __init__(
        self, classes: int = CLASSES, channels: int = CHANNELS, size: int = SIZE, width: int = 24
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, 4, 4)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 1 + (size // 4) ** 2, width))
        self.blocks = nn.Sequential(
            *(self.Block(width, self.attention(width, 3)) for _ in range(2))
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1) + self.position
        return self.head(self.norm(self.blocks(tokens))[:, 0])


class FunctionalTransformer(VisionTransformer):
    """The same with `nn.MultiheadAttention`."""

    attention = FunctionalAttention


class Untraceable(nn.Module):
    """A residual network whose path depends on values and sizes, which `torch.fx` cannot follow."""

    def __init__(self, classes: int = CLASSES, channels: int = CHANNELS, size: int = SIZE) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(channels, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.body = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(3))
        self.head = nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Tensor:
        if float(images.min()) >= 0:  # pixels that nobody has centred
            images = 2 * images - 1
        maps = F.relu(self.bn(self.stem(images)))
        for conv, norm in zip(self.body, self.norms, strict=True):
            maps = maps + F.relu(norm(conv(maps)))
            if maps.shape[-1] % 2 == 0:
                maps = F.max_pool2d(maps, 2)
        return self.head(maps.mean((2, 3)))


FOREIGN = {
    "pre-activation": PreActivation,
    "densenet": DenseNet,
    "inverted-residual": InvertedResidual,
    "convnext": ConvNeXt,
    "transformer": VisionTransformer,
    "untraceable": Untraceable,
}
REGISTERED = {
    "cnn": {"width": 4},
    "resnet18": {"width": 2},
    "resnet20": {"width": 4},
    "vgg11_bn": {"width": 2},
    "mobilenet_v2": {"width": 0.1},
}
RATES = {"transformer": 5e-3}  # of Adam; 1e-2 for the others
BATCH = 32
NETWORKS = (*FOREIGN, *REGISTERED)


def network(name: str, seed: int = 0) -> nn.Module:
    """The architecture of this name, freshly initialised."""
    if name in REGISTERED:
        return build(
            ModelSpec(name, REGISTERED[name], CLASSES, CHANNELS, SIZE, (0.0,) * 3, (1.0,) * 3),
            seed=seed,
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FOREIGN[name]()


def coloured_digits(seed: int = 0) -> tuple[Tensor, Tensor]:
    """The digits of scikit-learn at 16x16 pixels in random colours on noise, standardised; and their labels."""
    data = load_digits()
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    colour = 0.3 + 0.7 * torch.rand(len(pixels), CHANNELS, 1, 1, generator=generator)
    images = F.interpolate(pixels, SIZE, mode="bilinear", align_corners=False) * colour
    images += 0.1 * torch.randn(images.shape, generator=generator)
    return (images - images.mean()) / images.std(), torch.tensor(data.target)


def trained(name: str, images: Tensor, labels: Tensor, *, steps: int, seed: int = 0) -> nn.Module:
    """The architecture after some steps of Adam on batches, with a rate that falls to 0.

    So the running statistics of the batch norms fit the weights, as after a long training.
    """
    with torch.random.fork_rng():  # dropout draws from the global generator
        torch.manual_seed(seed)
        return _fitted(network(name, seed), images, labels, steps, RATES.get(name, 1e-2)).eval()


def _fitted(model: nn.Module, images: Tensor, labels: Tensor, steps: int, rate: float) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = (
                0.3  # statistics of the last few steps: the weights hardly change in them
            )
    for _ in range(steps):
        records = torch.randint(len(images), (BATCH,))
        optimizer.zero_grad()
        F.cross_entropy(model(images[records]), labels[records]).backward()
        optimizer.step()
        decay.step()
    return model
