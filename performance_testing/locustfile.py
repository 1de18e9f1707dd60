"""Load on a running service: `locust -f performance_testing/locustfile.py --host http://127.0.0.1:8000`.

Pictures are drawn here, so nothing has to be downloaded; set PICTURES to a folder of JPEGs for real ones.
"""

import io
import os
import random
from pathlib import Path

from locust import HttpUser, between, task
from PIL import Image, ImageDraw


def _draw(seed: int) -> bytes:
    chance = random.Random(seed)
    image = Image.new("RGB", (136, 102), "white")
    corners = [(chance.randrange(136), chance.randrange(102)) for _ in range(6)]
    ImageDraw.Draw(image).polygon(corners, fill=tuple(chance.randrange(200) for _ in range(3)))
    out = io.BytesIO()
    image.save(out, "JPEG")
    return out.getvalue()


def _pictures() -> list[bytes]:
    folder = os.environ.get("PICTURES")
    return [file.read_bytes() for file in Path(folder).rglob("*.jpg")] if folder else [_draw(i) for i in range(100)]


PICTURES = _pictures()


class Visitor(HttpUser):
    """Looks at a picture every one to two seconds, and at the state now and then."""

    wait_time = between(1, 2)

    @task(20)
    def predict(self) -> None:
        self.client.post("/predict", files={"file": ("picture.jpg", random.choice(PICTURES), "image/jpeg")})

    @task(1)
    def status(self) -> None:
        self.client.get("/status")
