"""Drawn pictures to send, so that nothing has to be downloaded."""

import io
import random
import zipfile

from PIL import Image, ImageDraw


def draw(seed: int) -> bytes:
    """A JPEG of a random shape on white."""
    generator = random.Random(seed)
    image = Image.new("RGB", (136, 102), "white")
    corners = [(generator.randrange(136), generator.randrange(102)) for _ in range(6)]
    colour = (generator.randrange(200), generator.randrange(200), generator.randrange(200))
    ImageDraw.Draw(image).polygon(corners, fill=colour)
    out = io.BytesIO()
    image.save(out, "JPEG")
    return out.getvalue()


def draw_zip(label: str, count: int, first: int) -> bytes:
    """A ZIP with one folder of drawn pictures."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for seed in range(first, first + count):
            archive.writestr(f"{label}/{seed}.jpg", draw(seed))
    return out.getvalue()
