"""Lessons, good and wrong, and what becomes of them. `experiments/gate_table.py` does the same at length."""

from collections.abc import Callable

import httpx
import pytest

from helpers.pictures import draw, zip_of

Files = dict[str, bytes]


def lesson(label: str, shows: str, count: int) -> Files:
    return {f"{label}/{number}.jpg": draw(shows, number) for number in range(3000, 3000 + count)}


LESSONS = {
    "40 good pictures of a new label": (lesson("hat", "hat", 40), "published"),
    "20 good pictures of a known label": (lesson("Boot", "Boot", 20), "published"),
    "2 pictures with the wrong label": (lesson("Sandal", "Boot", 2), "published"),  # people correct the model so
    "12 pictures with the wrong label": (lesson("Sandal", "Boot", 12), "rejected"),
    "40 pictures with the wrong label": (lesson("Sandal", "Boot", 40), "rejected"),
    "40 pictures of a new label that show a known one": (lesson("Shoe 2", "Shoe", 40), "rejected"),
}


@pytest.mark.faults
@pytest.mark.parametrize("name", LESSONS)
def test_a_wrong_lesson_is_not_published(
    name: str, client: httpx.Client, record_property: Callable[[str, object], None]
) -> None:
    files, expected = LESSONS[name]
    assert client.post("/upload", files={"file": zip_of(files)}).status_code == 201
    job = client.post("/retrain", params={"mode": "quick", "wait": "true"}).json()
    record_property(f"Lesson of {name}", job["state"])
    assert job["state"] == expected, job["message"]
