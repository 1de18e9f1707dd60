"""Predictions, from the bytes of a picture to the answer: decode, classify, record."""

import hashlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from shoe_classifier.errors import AppError, Overloaded
from shoe_classifier.ml.live_model import LiveModelHolder, Prediction
from shoe_classifier.ml.preprocessing import sniff
from shoe_classifier.services.recent_features import RecentFeatures
from shoe_classifier.settings import Settings
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import EXTENSIONS, PredictionRecord, new_id, picture_path, utc_now

logger = logging.getLogger(__name__)


class PredictionService:
    """Classifies pictures and records each prediction.

    Attributes:
        threads: where the service runs `predict`.
        unrecorded: number of predictions that were answered but could not be recorded.
        recent: what the backbone saw in the pictures of the newest predictions.
    """

    def __init__(
        self,
        settings: Settings,
        holder: LiveModelHolder,
        store: Store,
        observe: Callable[[str, bytes, Prediction], None] = lambda prediction_id, picture, prediction: None,
    ):
        """`observe` is told of each recorded prediction, with its id and its picture; it must not wait."""
        self._settings = settings
        self._observe = observe
        self._holder = holder
        self._store = store
        self._pending = 0
        self._lock = threading.Lock()
        self.threads = ThreadPoolExecutor(settings.threads, "predict")
        self.unrecorded = 0
        self.recent = RecentFeatures()

    def check_pending(self) -> None:
        """Raise `Overloaded` if there are too many predictions in flight: a longer queue would help nobody."""
        if self._pending >= self._settings.max_pending:
            raise Overloaded(
                f"Expected at most {self._settings.max_pending} predictions in flight; received one more.",
                "predictions",
            )

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Count a prediction in flight. Raises as `check_pending` does."""
        with self._lock:
            self.check_pending()
            self._pending += 1
        try:
            yield
        finally:
            with self._lock:
                self._pending -= 1

    def predict(self, data: bytes, name: str, started: float, *, record: bool = True) -> dict[str, Any]:
        """Classify a picture file and, unless told otherwise, record the prediction.

        Args:
            data: the bytes of the file.
            name: the client's name for it, for messages.
            started: `time.perf_counter()` when the request was received.

        Returns:
            The answer of `POST /predict`.

        Raises:
            AppError: see `LiveModelHolder.predict`. A failure to record never fails the prediction.
        """
        prediction = self._holder.predict(data, name)
        prediction_id = new_id()
        milliseconds = round((time.perf_counter() - started) * 1e3, 3)
        sha256 = self._record(prediction_id, data, prediction, milliseconds) if record else None
        if record:
            self._observe(prediction_id, data, prediction)
        return {
            "prediction_id": prediction_id,
            "predicted_class": prediction.predicted_class,
            "confidence": prediction.confidence,
            "decision": prediction.decision,
            "probabilities": prediction.probabilities,
            "model_version": prediction.model_version,
            "response_time_ms": milliseconds,
            "file_url": f"/files/{sha256}" if sha256 else None,
        }

    def _record(self, prediction_id: str, data: bytes, prediction: Prediction, milliseconds: float) -> str | None:
        """Keep the picture, if the settings say so, and the row. Return the SHA-256 of a kept picture."""
        sha256 = image_path = None
        try:
            if self._settings.store_prediction_images:
                sha256 = hashlib.sha256(data).hexdigest()
                image_path = picture_path(sha256, EXTENSIONS[sniff(data) or "JPEG"])
            row = PredictionRecord(
                id=prediction_id,
                image_path=image_path,
                predicted_class=prediction.predicted_class,
                confidence_score=prediction.confidence,
                decision=prediction.decision,
                probabilities=prediction.probabilities,
                model_version=prediction.model_version,
                response_time=milliseconds,
                created_at=utc_now(),
                review_kind="random" if random.random() < self._settings.review_random_share else None,
                image_bytes=len(data) if image_path else None,
            )
            self._store.add_prediction(row, data if image_path else None)
            self.recent.add(prediction_id, prediction)
            return sha256
        except AppError as error:  # one line for each, because a lock makes many of them
            self.unrecorded += 1
            logger.warning("Prediction %s was answered, but could not be recorded: %s", prediction_id, error.detail)
            return None
        except Exception:  # of any kind, such as a full disk: the answer is valid all the same
            self.unrecorded += 1
            logger.exception("Prediction %s was answered, but could not be recorded.", prediction_id)
            return None
