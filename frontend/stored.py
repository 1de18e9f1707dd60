"""Training pictures that are moved to another label or deleted, with a way back from both."""

from collections.abc import Sequence
from typing import NamedTuple

from changes import change
from components import api, count, escape_markdown
from pictures import drop_thumbnails


class Stored(NamedTuple):
    """A training picture: the id of its row, its hash and its label."""

    id: str
    sha256: str
    label: str


def move(pictures: Sequence[Stored], label: str) -> None:
    """Give pictures another label; undoing gives each the one that it had."""
    client = api()

    def move_back() -> None:
        for name in {picture.label for picture in pictures}:
            client.relabel([picture.id for picture in pictures if picture.label == name], name)

    message = f"Moved {count(len(pictures), 'picture')} to {escape_markdown(label)}."
    change(lambda: client.relabel([picture.id for picture in pictures], label), message, move_back)


def delete(pictures: Sequence[Stored]) -> None:
    """Delete pictures; undoing uploads them again, as new ones."""
    client = api()
    data: dict[str, bytes] = {}

    def remove() -> None:
        data.update((picture.sha256, client.file(picture.sha256)) for picture in pictures)
        client.delete([picture.id for picture in pictures])

    def upload_again() -> None:
        for picture in pictures:
            client.upload(picture.sha256, data[picture.sha256], picture.label)

    if change(remove, f"Deleted {count(len(pictures), 'picture')}.", upload_again):
        drop_thumbnails(picture.sha256 for picture in pictures)
