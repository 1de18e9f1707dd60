"""The pictures that a visitor dropped, with their answers; they outlast a visit to another page."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import streamlit as st

from answering import answered
from client import ApiError, Busy, Prediction, Unreachable
from components import api, cell, count, escape_markdown
from pictures import small_jpeg, thumbnails

_MOST = 500  # pictures that are kept for a visitor
_SIDE = 360  # pixels of the copies that are shown
_THREADS = 4
UNSURE, UNKNOWN, REFUSED = "unsure", "not recognised", "not readable"
_ORDER = {UNSURE: 0, UNKNOWN: 1, REFUSED: 2}  # labels come last


@dataclass(frozen=True)
class Dropped:
    """A picture, a small copy of it, and what the live model or the service said; `answer` is None before."""

    sha256: str
    name: str
    data: bytes
    small: bytes | None
    answer: Prediction | ApiError | None = None

    @property
    def group(self) -> str:
        """The label, or why there is none that is certain."""
        if not isinstance(self.answer, Prediction):
            return REFUSED
        return {"uncertain": UNSURE, "unknown": UNKNOWN}.get(self.answer.decision, self.answer.predicted_class)

    @property
    def said(self) -> str | None:
        """What the visitor answered to the answer."""
        return answered().get(self.answer.prediction_id) if isinstance(self.answer, Prediction) else None

    @property
    def is_stored(self) -> bool:
        """Whether the service keeps the picture."""
        return isinstance(self.answer, Prediction) and self.answer.file_url is not None

    @property
    def is_open(self) -> bool:
        """Whether a person should say what it is."""
        return self.is_stored and self.said is None and self.group in (UNSURE, UNKNOWN)


def pictures() -> dict[str, Dropped]:
    """This visitor's pictures by SHA-256, in the order in which they came."""
    kept: dict[str, Dropped] = st.session_state.setdefault("pictures", {})
    return kept


def take_in(files: Iterable[tuple[str, bytes]]) -> None:
    """Add pictures, given as names and bytes; the same one again takes the place of the first."""
    with ThreadPoolExecutor(_THREADS) as executor:
        for item in executor.map(_read, files):
            pictures()[item.sha256] = item
    for sha256 in list(pictures())[:-_MOST]:
        del pictures()[sha256]


def answer_all(version: str, at_once: int) -> None:
    """Predict what the live model has not answered yet, `at_once` pictures a call. Raises `Unreachable` or `Busy`."""
    waiting = [item for item in pictures().values() if _is_stale(item, version)]
    for start in range(0, len(waiting), at_once):
        part = waiting[start : start + at_once]
        done = [replace(item, answer=answer) for item, answer in zip(part, _predict(part), strict=True)]
        copies = thumbnails([item.sha256 for item in done if item.small is None and item.is_stored], _SIDE)
        for item in done:  # the service knows formats that this page cannot decode, such as HEIC
            pictures()[item.sha256] = replace(item, small=item.small or copies.get(item.sha256))


def in_order(items: Iterable[Dropped]) -> list[Dropped]:
    """Those first that a person should look at, then by label."""
    return sorted(items, key=lambda item: (not item.is_open, _ORDER.get(item.group, 3), item.group))


def groups() -> Counter[str]:
    """How many pictures each group has: labels first, the most frequent one first."""
    counts = Counter(item.group for item in pictures().values())
    return Counter(dict(sorted(counts.items(), key=lambda pair: (pair[0] in _ORDER, -pair[1], pair[0]))))


def summary() -> str:
    """`40 pictures: 29 Shoe, 6 Boot, 5 unsure`, as Markdown."""
    parts = (f"{number} {escape_markdown(name)}" for name, number in groups().items())
    return f"{count(len(pictures()), 'picture')}: {', '.join(parts)}"


def as_csv(items: Mapping[str, Dropped], said: Mapping[str, str | None]) -> str:
    """A row for each picture, with what was said by prediction. Also runs outside a visit, for a download."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["file", "label", "confidence", "decision", "your label", "model version", "error"])
    for item in items.values():
        if isinstance(answer := item.answer, Prediction):
            row = [answer.predicted_class, f"{answer.confidence:.4f}", answer.decision]
            row += [said.get(answer.prediction_id) or "", answer.model_version]
            writer.writerow([*map(cell, [item.name, *row]), ""])
        else:
            writer.writerow([cell(item.name), "", "", "", "", "", answer.detail if answer else ""])
    return out.getvalue()


def _read(file: tuple[str, bytes]) -> Dropped:
    name, data = file
    return Dropped(hashlib.sha256(data).hexdigest(), name, data, small_jpeg(data, _SIDE))


def _is_stale(item: Dropped, version: str) -> bool:
    answer = item.answer
    return answer is None or (isinstance(answer, Prediction) and answer.model_version != version)


def _predict(items: Sequence[Dropped]) -> Sequence[Prediction | ApiError]:
    try:
        return api().predict([(item.name, item.data) for item in items])
    except (Unreachable, Busy):
        raise
    except ApiError as error:
        return [error] * len(items)
