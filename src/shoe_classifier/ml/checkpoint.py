"""The state of a training on disk, from which it goes on when it was killed."""

import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shoe_classifier.files import replacing

logger = logging.getLogger(__name__)


class Checkpoint:
    """The state of a training after its last whole epoch, in one file.

    Args:
        path: of the file.
        fingerprint: of what the training learns from, and how. The state of another training is not taken over.
    """

    def __init__(self, path: Path, fingerprint: str):
        self._path, self._fingerprint = path, fingerprint

    def save(self, variables: Sequence[Any], epochs: int) -> None:
        """Keep the state after so many epochs."""
        arrays = {str(number): variable.numpy() for number, variable in enumerate(variables)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._path) as part, part.open("wb") as file:
            np.savez(file, epochs=epochs, fingerprint=self._fingerprint, **arrays)

    def restore(self, variables: Sequence[Any]) -> int:
        """Take the state over, if there is one; returns after how many epochs it was kept."""
        try:
            with self._path.open("rb") as file, np.load(file) as state:
                if str(state["fingerprint"]) != self._fingerprint:
                    return 0
                values = [state[str(number)] for number in range(len(variables))]
                epochs = int(state["epochs"])
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            logger.warning("The checkpoint %s cannot be read; the training begins anew.", self._path, exc_info=True)
            return 0
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return epochs
