"""Load profiles: `locust -f performance_testing/locustfile.py --host http://127.0.0.1:8000 Visitor`.

Pictures are drawn here, so nothing has to be downloaded; set PICTURES to a folder of JPEGs for real ones.
"""

import os
import random
from pathlib import Path

from drawing import draw, draw_zip
from locust import FastHttpUser, between, constant, constant_pacing, task


def _pictures() -> list[bytes]:
    folder = os.environ.get("PICTURES")
    return [file.read_bytes() for file in Path(folder).rglob("*.jpg")] if folder else [draw(i) for i in range(100)]


PICTURES = _pictures()


class _User(FastHttpUser):
    abstract = True

    def predict_one(self) -> None:
        self.client.post("/predict", files={"file": ("picture.jpg", random.choice(PICTURES), "image/jpeg")})


class Busy(_User):
    """Sends the next picture as soon as the answer arrives."""

    wait_time = constant(0)

    @task
    def predict(self) -> None:
        self.predict_one()


class Steady(Busy):
    """Sends ten pictures a second, or fewer if answers take longer."""

    wait_time = constant_pacing(0.1)


class Visitor(_User):
    """Predicts every one to two seconds, and sometimes looks at the state."""

    wait_time = between(1, 2)

    @task(20)
    def predict(self) -> None:
        self.predict_one()

    @task(1)
    def status(self) -> None:
        self.client.get("/status")


class Teacher(_User):
    """Predicts, sometimes uploads a few pictures, and rarely asks for a retrain."""

    wait_time = between(0.05, 0.2)

    @task(100)
    def predict(self) -> None:
        self.predict_one()

    @task(5)
    def upload(self) -> None:
        data = draw_zip(random.choice(["star", "shard"]), 8, random.randrange(1 << 40))
        self.client.post("/upload", files={"file": ("lesson.zip", data, "application/zip")})

    @task(1)
    def retrain(self) -> None:
        with self.client.post("/retrain", params={"mode": "quick"}, catch_response=True) as response:
            if response.status_code in (202, 409):  # only one retrain at a time, and only with new pictures
                response.success()
