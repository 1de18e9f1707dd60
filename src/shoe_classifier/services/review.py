"""What people say about predictions: it is recorded, and the picture becomes training data."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from shoe_classifier.errors import AppError, InvalidRequest, NotFound
from shoe_classifier.ml.zip_reader import Picture
from shoe_classifier.services.corrections import CorrectionService
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.services.monitoring import Monitor
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import NONE_OF_THESE, SKIPPED, PredictionRecord, TrainingPicture, utc_now

SOURCE = "review"  # of the training pictures that come from here
_NOT_KEPT = "Expected predictions whose pictures are kept; received others"
_NAMED = 3


@dataclass(frozen=True)
class Answer:
    """What a person says about one prediction; exactly one of the last four is set.

    Attributes:
        label: what is in the picture.
        none: it shows none of the labels.
        skip: the person will not decide.
        undo: takes an earlier answer back.
    """

    prediction_id: str
    label: str | None = None
    none: bool = False
    skip: bool = False
    undo: bool = False

    @property
    def taught(self) -> str | None:
        """The label with which the picture becomes training data, or None when it does not."""
        return NONE_OF_THESE if self.none else self.label


@dataclass
class ReviewReport:
    """How many predictions were answered, and how."""

    answered: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    none: int = 0
    skipped: int = 0
    undone: int = 0

    def as_json(self) -> dict[str, object]:
        """Return the answer of `POST /review`."""
        return vars(self) | {"labels": dict(self.labels)}


@dataclass(frozen=True)
class _Checked:
    """An answer, its label in the known spelling, and what it is about.

    Attributes:
        taught: see `Answer.taught`.
        training: the training row of the same picture, if there is one.
    """

    answer: Answer
    taught: str | None
    row: PredictionRecord
    training: TrainingPicture | None

    @property
    def withdraws(self) -> bool:
        """Whether the training row goes because it came from the answer that this one replaces."""
        answered = self.row.reviewed_at is not None and self.row.reviewed_label != SKIPPED
        return bool(self.taught is None and answered and self.training and self.training.source == SOURCE)

    @property
    def relabels(self) -> bool:
        return bool(self.taught and self.training and self.training.shoe_class != self.taught)


class ReviewService:
    """Takes answers, many at once: all of them or none."""

    def __init__(
        self,
        store: Store,
        ingestion: IngestionService,
        corrections: CorrectionService,
        monitor: Monitor,
    ):
        self._store = store
        self._ingestion = ingestion
        self._corrections = corrections
        self._monitor = monitor

    def answer(self, answers: Sequence[Answer], folder: Path, known_labels: Iterable[str]) -> ReviewReport:
        """Record answers. A new answer replaces the one before, with its training row.

        Args:
            folder: a folder of this call alone, for pictures while they are checked.
            known_labels: labels of the live model. A label that differs only in case is spelled as there.

        Raises:
            NotFound: there are no such predictions, or their pictures were not kept or were deleted.
            InvalidRequest: two answers about the same prediction, or different labels for the same picture.
            InvalidLabel: as `IngestionService.spell` raises it.
            AppError: a picture cannot be learned from, as `IngestionService.ingest_pictures` raises it.

            All but `InvalidLabel` name the predictions as `prediction_ids` among their extra fields, where one is to
            blame.
        """
        checked = self._check(answers, list(known_labels))
        self._teach(checked, folder, known_labels)
        report = ReviewReport()
        for item in checked:
            self._record(item)
            _count(report, item)
        return report

    # ------------------------------------------------------------ checks

    def _check(self, answers: Sequence[Answer], known_labels: list[str]) -> list[_Checked]:
        rows = self._rows([answer.prediction_id for answer in answers])
        labels = {answer.label for answer in answers if answer.label is not None}
        spelled = {label: self._ingestion.spell(label, known_labels) for label in labels}
        _refuse_missing_pictures([rows[answer.prediction_id] for answer in answers if answer.taught])
        training = self._training(rows.values())
        checked = [
            _Checked(
                answer,
                spelled[answer.label] if answer.label else answer.taught,
                rows[answer.prediction_id],
                training.get(_sha256(rows[answer.prediction_id])),
            )
            for answer in answers
        ]
        _refuse_contradictions(checked)
        return checked

    def _rows(self, ids: list[str]) -> dict[str, PredictionRecord]:
        twice = [row_id for row_id, count in Counter(ids).items() if count > 1]
        if twice:
            raise _blaming(InvalidRequest, "Expected one answer for each prediction; received several", twice)
        rows = self._store.predictions_with(ids)
        missing = [row_id for row_id in ids if row_id not in rows]
        if missing:
            raise _blaming(NotFound, "Expected ids of predictions; received others or deleted ones", missing)
        return rows

    def _training(self, rows: Iterable[PredictionRecord]) -> dict[str, TrainingPicture]:
        """The training rows of the same pictures, by SHA-256."""
        stored = self._store.labels_of([_sha256(row) for row in rows if row.image_path])
        found = (self._store.training_with(sha256) for sha256 in stored)
        return {row.sha256: row for row in found if row}

    # ------------------------------------------------------------ changes

    def _teach(self, checked: list[_Checked], folder: Path, known_labels: Iterable[str]) -> None:
        """Add the pictures that are new; only then change the rows that are there. All of it may be repeated."""
        new = {_sha256(item.row): item for item in checked if item.taught and not item.training}
        if new:
            try:
                self._ingestion.ingest_pictures(self._pictures(new.values()), folder, known_labels, SOURCE)
            except AppError as error:
                if "picture" in error.extra:
                    error.extra = {"prediction_ids": [error.extra["picture"]]}
                raise
        for item in checked:
            if item.training and item.taught and item.relabels:
                self._store.relabel(item.training.id, item.taught)
            elif item.training and item.withdraws:
                self._corrections.withdraw(item.training)

    def _pictures(self, items: Iterable[_Checked]) -> Iterator[Picture]:
        """The pictures with their labels, each named by its prediction."""
        for item in items:
            try:
                data = next(self._store.pictures([str(item.row.image_path)]))
            except NotFound:
                raise _blaming(NotFound, _NOT_KEPT, [item.row.id]) from None
            yield Picture(str(item.taught), item.row.id, data)

    def _record(self, item: _Checked) -> None:
        row = item.row
        if item.answer.undo:
            self._store.review_prediction(row.id, None, "random" if row.review_kind == "random" else None, None)
            return
        label = SKIPPED if item.answer.skip else None if item.answer.none else item.taught
        self._store.review_prediction(row.id, label, row.review_kind or self._kind(row), utc_now())

    def _kind(self, row: PredictionRecord) -> str | None:
        """Why a person was asked about a prediction that was not drawn at random; None if nobody was."""
        if row.decision != "accepted":
            return row.decision
        return "drifted" if row.id in self._monitor.drifted else None


def _sha256(row: PredictionRecord) -> str:
    return PurePath(row.image_path or "").stem


def _refuse_missing_pictures(rows: Iterable[PredictionRecord]) -> None:
    missing = [row.id for row in rows if row.image_path is None]
    if missing:
        raise _blaming(NotFound, _NOT_KEPT, missing)


def _refuse_contradictions(checked: list[_Checked]) -> None:
    taught: dict[str, set[str]] = defaultdict(set)
    for item in checked:
        if item.taught:
            taught[_sha256(item.row)].add(item.taught)
    ids = [item.row.id for item in checked if len(taught[_sha256(item.row)]) > 1]
    if ids:
        raise _blaming(InvalidRequest, "Expected one label for each picture; received several", ids)


def _blaming(kind: type[AppError], detail: str, ids: list[str]) -> AppError:
    """An error that names the predictions to blame, the first ones also in its text."""
    named = ", ".join(row_id[:80] for row_id in ids[:_NAMED])
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return kind(f"{detail}: {named}{more}. Nothing was changed.", extra={"prediction_ids": ids})


def _count(report: ReviewReport, item: _Checked) -> None:
    answer = item.answer
    report.answered += 1
    report.none += answer.none
    report.skipped += answer.skip
    report.undone += answer.undo
    if answer.label and item.taught:
        report.labels[item.taught] += 1
