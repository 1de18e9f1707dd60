"""Small drawn pictures, and ZIPs of them."""

import io
import zipfile
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from shoe_classifier.ml.zip_reader import Picture

SHAPES = ("Boot", "Sandal", "Shoe")  # drawn as red circle, green square and blue triangle
COLOURS = {"Boot": (200, 30, 30), "Sandal": (30, 160, 30), "Shoe": (30, 30, 200)}
SIDE = 32


def draw(label: str, seed: int, size: tuple[int, int] = (48, 40), **save: Any) -> bytes:
    """A picture of a shape: each label has its own, in its colour; each seed another place, size and tint."""
    rng = np.random.default_rng([seed, len(label), ord(label[0])])
    image = Image.new("RGB", size, tuple(int(v) for v in rng.integers(200, 256, 3)))
    colour = tuple(int(v + rng.integers(-25, 26)) for v in COLOURS.get(label, (190, 170, 40)))
    radius = int(min(size) * rng.uniform(0.25, 0.4))
    x, y = (int(rng.integers(radius, edge - radius)) for edge in size)
    pen = ImageDraw.Draw(image)
    box = (x - radius, y - radius, x + radius, y + radius)
    if label == "Boot":
        pen.ellipse(box, fill=colour)
    elif label == "Sandal":
        pen.rectangle(box, fill=colour)
    elif label == "Shoe":
        pen.polygon([(x, box[1]), (box[0], box[3]), (box[2], box[3])], fill=colour)
    else:  # stripes over all of the picture: a label that is new to the model
        for line in range(int(rng.integers(0, 4)), size[0], 6):
            pen.line((line, 0, line, size[1]), fill=colour, width=3)
    return encode(image, **save)


def encode(image: Image.Image, kind: str = "JPEG", **save: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **save)
    return out.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def lesson_zip(label: str, count: int = 40, start: int = 1000) -> bytes:
    return zip_of({f"{label}/{i}.jpg": draw(label, i) for i in range(start, start + count)})


def mixed_up_lesson() -> dict[str, bytes]:
    """Hats and caps, of which each tenth four have the label of the other; the gate refuses them."""
    lesson = {}
    for i in range(120):
        label, shown = ("hat", "hat") if i % 2 else ("cap", "Boot")
        if i % 10 < 4:
            label = "cap" if label == "hat" else "hat"
        lesson[f"{label}/{i}.jpg"] = draw(shown, 7000 + i)
    return lesson


def drawn(seeds: range) -> list[Picture]:
    return [Picture(label, f"{label}/{seed}.jpg", draw(label, seed)) for label in SHAPES for seed in seeds]
