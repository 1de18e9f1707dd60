"""Ingestion of training pictures: check them, find duplicates, store them durably."""

import hashlib
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

from shoe_classifier.errors import (
    AppError,
    InvalidImage,
    InvalidLabel,
    InvalidRequest,
    InvalidZip,
    NothingAccepted,
    TooLarge,
    TooSmall,
)
from shoe_classifier.ml.dataset import is_held_out
from shoe_classifier.ml.label_lists import Origin
from shoe_classifier.ml.preprocessing import sniff
from shoe_classifier.ml.zip_reader import Picture, Skipped, ZipLimits, read_labelled
from shoe_classifier.services.picture_features import Extracted, FeatureExtractor
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import (
    EXTENSIONS,
    NONE_OF_THESE,
    Publish,
    TrainingPicture,
    new_id,
    picture_path,
    publish_nothing,
    utc_now,
)

MAX_LABEL = 64
_HEALED = "Its stored file was missing or damaged, and has been replaced."
# Characters that look like nothing but count as letters, marks or symbols: fillers, selectors, the empty Braille cell.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
Check = Future[Extracted | None]  # see `FeatureExtractor.check`


@dataclass
class UploadReport:
    """The outcome of an upload: how many pictures were accepted, of which labels, and which files were skipped."""

    upload_id: str = field(default_factory=new_id)
    accepted: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    skipped: list[Skipped] = field(default_factory=list)
    healed: int = 0  # of the skipped ones: stored pictures whose damaged file was replaced

    def as_json(self) -> dict[str, object]:
        """Return the answer of `POST /upload`."""
        skipped = [{"name": clean_name(s.name), "reason": s.reason, "detail": s.detail} for s in self.skipped]
        return {"upload_id": self.upload_id, "accepted": self.accepted, "labels": dict(self.labels), "skipped": skipped}


class IngestionService:
    """Checks uploaded pictures and adds them to the training data."""

    def __init__(
        self, settings: Settings, store: Store, features: FeatureExtractor, publish: Publish = publish_nothing
    ):
        self._settings = settings
        self._store = store
        self._features = features
        self._publish = publish
        self._lock = threading.Lock()
        self.zip_limits = ZipLimits(
            settings.max_zip_files, settings.max_zip_bytes, settings.max_image_bytes, settings.max_zip_directory_bytes
        )

    def ingest(
        self,
        file: Path,
        name: str,
        label: str | None,
        folder: Path,
        known_labels: Iterable[str],
        source: str = "image",
    ) -> UploadReport:
        """Add a ZIP of pictures with their labels (see `zip_reader.read_labelled`), or a single picture with its label.

        An upload is added as a whole or, if it raises, not at all. Files of a ZIP that cannot be used are skipped, and
        the report says why.

        Args:
            file: the upload.
            name: the client's name for it.
            label: of a single picture; a ZIP has its own labels.
            folder: a folder of this upload alone, for pictures that are not stored yet.
            known_labels: labels of the live model. A label that differs only in case is spelled as there.
            source: the origin of a single picture, kept with its row.

        Raises:
            NothingAccepted: no picture was valid and new.
            InvalidZip, TooLarge: as `zip_reader.read_labelled` raises them.
            InvalidLabel, InvalidRequest, and what `preprocessing.decode` raises: for a single picture.
        """
        with file.open("rb") as opened:
            start = opened.read(16)
        if start.startswith(b"PK"):
            entries = self._features.check_all(read_labelled(file, self.zip_limits))
            return self._ingest(entries, folder, known_labels, "zip")
        if label is None and sniff(start):
            raise InvalidRequest("Expected a form field 'label' with a single picture; received none.")
        if label is None:
            raise InvalidZip(f"Expected a ZIP of labelled folders; received {'another' if start else 'an empty'} file.")
        size = file.stat().st_size
        if size > self._settings.max_image_bytes:
            raise TooLarge(
                f"Expected a picture of at most {self._settings.max_image_bytes:,} bytes; received {size:,}."
            )
        picture = Picture(label, name, file.read_bytes())
        clean_label(label)
        check = self._features.check(picture)
        check.result()
        return self._ingest([(picture, check)], folder, known_labels, source)

    def ingest_pictures(
        self, pictures: Iterable[Picture], folder: Path, known_labels: Iterable[str], source: str
    ) -> UploadReport:
        """Add pictures with their labels: all that are new, or, if one of them cannot be used, none.

        Raises:
            AppError: what `preprocessing.decode` raises, with the picture's name as `picture` among its extra fields.
            NothingAccepted: none of them was new.
        """
        return self._ingest(_all_valid(self._features.check_all(pictures)), folder, known_labels, source)

    def spell(self, label: str, known_labels: Iterable[str]) -> str:
        """Return a label in its known spelling, or as given if it is new. Raises `InvalidLabel`."""
        label = clean_label(label)
        return self._spelling(known_labels).get(_key_of(label), label)

    def _spelling(self, known_labels: Iterable[str]) -> dict[str, str]:
        return {_key_of(label): label for label in [*self._store.training_labels(), *known_labels, NONE_OF_THESE]}

    def _ingest(
        self,
        entries: Iterable[tuple[Picture | Skipped, Check | None]],
        folder: Path,
        known_labels: Iterable[str],
        source: str,
    ) -> UploadReport:
        report = UploadReport()
        spelling = self._spelling(known_labels)
        waiting: dict[str, _Waiting] = {}
        for entry, check in entries:
            skipped = entry if isinstance(entry, Skipped) else self._stage(entry, check, folder, spelling, waiting)
            if skipped:
                report.skipped.append(skipped)
        self._keep(list(waiting.values()), report, source)
        if not report.accepted:
            reasons = Counter(skipped.reason for skipped in report.skipped)
            received = ", ".join(f"{n} {reason}" for reason, n in reasons.items()) or "no files at all"
            raise NothingAccepted(
                f"Expected at least one new picture, in a ZIP below a folder named by its label; received {received}."
                + (f" The damaged files of {report.healed} stored pictures were replaced." if report.healed else ""),
                extra={"report": report.as_json()},
            )
        self._publish("upload.accepted", {**report.as_json(), "skipped": len(report.skipped)})
        return report

    def _stage(
        self,
        picture: Picture,
        check: Check | None,
        folder: Path,
        spelling: dict[str, str],
        waiting: dict[str, "_Waiting"],
    ) -> Skipped | None:
        """Write one picture to the private folder if its check succeeds. Return why it was skipped, or None."""
        try:
            label = clean_label(picture.label)
            label = spelling.setdefault(_key_of(label), label)
            sha256 = hashlib.sha256(picture.data).hexdigest()
            if sha256 in waiting:
                return _known(picture.name, label, waiting[sha256].label)
            if picture.origin and picture.origin.sha256 not in (None, sha256):
                return Skipped(
                    picture.name, "corrupt", "Expected the picture of the SHA-256 in the list; it is another."
                )
            extracted = check.result() if check else None
        except AppError as error:
            return Skipped(picture.name, _reason(error), error.detail)
        file = folder / f"{sha256}{EXTENSIONS[sniff(picture.data) or 'JPEG']}"
        file.write_bytes(picture.data)
        waiting[sha256] = _Waiting(sha256, label, picture.name, file, extracted, picture.origin or Origin())
        return None

    def _keep(self, waiting: list["_Waiting"], report: UploadReport, source: str) -> None:
        """Store what is new. The store keeps pictures before rows, so that no row lacks its picture."""
        with self._lock:  # otherwise another upload could add the same picture or label between the check and the write
            stored = self._store.labels_of([item.sha256 for item in waiting])
            spelling = self._spelling([])
            waiting = [replace(item, label=spelling.get(_key_of(item.label), item.label)) for item in waiting]
            self._add([item for item in waiting if item.sha256 not in stored], report, source)
        self._skip([item for item in waiting if item.sha256 in stored], stored, report)

    def _skip(self, known: list["_Waiting"], stored: dict[str, str], report: UploadReport) -> None:
        """Report pictures that are stored already, and replace their stored files where these are damaged."""
        healed = self._store.heal([(item.image_path, item.file) for item in known]) if known else set()
        for item in known:
            skipped = _known(item.name, item.label, stored[item.sha256])
            if item.image_path in healed:
                skipped = replace(skipped, detail=f"{skipped.detail} {_HEALED}")
            report.skipped.append(skipped)
        report.healed = len(healed)

    def _add(self, waiting: list["_Waiting"], report: UploadReport, source: str) -> None:
        rows = [
            TrainingPicture(
                id=new_id(),
                image_path=item.image_path,
                sha256=item.sha256,
                shoe_class=item.label,
                is_processed=False,
                split="holdout" if is_held_out(item.sha256) else "train",
                source=item.origin.source or source,
                upload_id=report.upload_id,
                uploaded_at=item.origin.uploaded_at or utc_now(),
            )
            for item in waiting
        ]
        new = self._store.add_training(rows, [item.file for item in waiting]) if rows else set()
        self._features.keep({item.sha256: item.extracted for item in waiting if item.extracted})
        for row, item in zip(rows, waiting, strict=True):
            if row.id in new:
                report.labels[row.shoe_class] += 1
            else:  # another machine has added it since the check
                report.skipped.append(_known(item.name, row.shoe_class, row.shoe_class))
        report.accepted = len(new)


@dataclass(frozen=True)
class _Waiting:
    """A checked picture in the private folder, with the client's name for it."""

    sha256: str
    label: str
    name: str
    file: Path
    extracted: Extracted | None
    origin: Origin

    @property
    def image_path(self) -> str:
        return picture_path(self.sha256, self.file.suffix)


def _all_valid(
    entries: Iterable[tuple[Picture, Check | None]],
) -> Iterator[tuple[Picture | Skipped, Check | None]]:
    """Pass pictures on; raise the error of the first one that cannot be used."""
    for picture, check in entries:
        try:
            if check:
                check.result()
        except AppError as error:
            error.extra["picture"] = picture.name
            raise
        yield picture, check


def _known(name: str, label: str, known: str) -> Skipped:
    reason = "duplicate" if known == label else "conflict"
    return Skipped(name, reason, f"The same picture is already stored as {known!r}.")


def clean_label(raw: str) -> str:
    """Return a label in composed Unicode with single spaces, so that labels that look the same are the same.

    Raises:
        InvalidLabel: empty, longer than 64 characters, or with characters that are not text.
    """
    label = " ".join(unicodedata.normalize("NFC", raw).split())
    if not label or len(label) > MAX_LABEL:
        raise InvalidLabel(f"Expected a label of 1 to {MAX_LABEL} characters; received {len(label)}.")
    bad = [c for c in label if c in "/\\" or unicodedata.category(c).startswith("C") or _INVISIBLE.match(c)]
    if bad or label in (".", ".."):
        raise InvalidLabel(
            "Expected a label of letters, digits, punctuation and spaces; received one with other characters."
        )
    return label


def clean_name(name: str) -> str:
    """Return a client's file name for reports and logs: control characters replaced, at most 200 characters."""
    return "".join("\ufffd" if unicodedata.category(c).startswith("C") else c for c in name)[:200]


def _key_of(label: str) -> str:
    """Return what two spellings of the same label have in common: `shoe` and `Shoe`."""
    return unicodedata.normalize("NFKC", label).casefold()


def _reason(error: AppError) -> str:
    if isinstance(error, TooSmall):
        return "too_small"
    return "corrupt" if isinstance(error, InvalidImage) else "unsupported"
