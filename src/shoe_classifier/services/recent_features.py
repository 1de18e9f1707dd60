"""What the backbone saw in the pictures of predictions: of the newest ones, and of those that somebody asks for."""

import threading
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np

from shoe_classifier.ml.live_model import Prediction

_NEWEST = 2000  # predictions; 5 MB

Features = dict[str, np.ndarray]  # by the id of the prediction, `float16 (d,)` each


class RecentFeatures:
    """Features of predictions, in memory. Safe to use from several threads."""

    def __init__(self) -> None:
        self._newest: OrderedDict[str, tuple[str, np.ndarray]] = OrderedDict()
        self._chosen: tuple[str, Features] = "", {}
        self._lock = threading.Lock()

    def add(self, prediction_id: str, prediction: Prediction) -> None:
        """Keep the features of a prediction, if it has any, in the place of the oldest ones."""
        if prediction.features is None or prediction.backbone is None:
            return
        small = prediction.features.astype(np.float16)
        with self._lock:
            self._newest[prediction_id] = prediction.backbone, small
            if len(self._newest) > _NEWEST:
                self._newest.popitem(last=False)

    def get(self, backbone: str, prediction_ids: Iterable[str]) -> Features:
        """Return the features that are known of some predictions and belong to a backbone, named by its SHA-256."""
        ids = list(prediction_ids)
        with self._lock:
            newest = {row_id: self._newest[row_id] for row_id in ids if row_id in self._newest}
            chosen_backbone, chosen = self._chosen
        found = {row_id: chosen[row_id] for row_id in ids if row_id in chosen} if chosen_backbone == backbone else {}
        return found | {row_id: features for row_id, (known, features) in newest.items() if known == backbone}

    def choose(self, backbone: str, features: Features) -> None:
        """Keep these features in any case, instead of those that were chosen before."""
        with self._lock:
            self._chosen = backbone, features
