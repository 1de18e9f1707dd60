"""The formats of exports, and what each needs."""

import importlib.util
from dataclasses import dataclass
from typing import Literal

from shoe_classifier.errors import ExportUnavailable

ExportFormat = Literal["tflite", "onnx", "web"]


@dataclass(frozen=True)
class FormatInfo:
    """What is known of a format without making an export.

    Attributes:
        extension: of its files.
        media_type: of its files, for HTTP.
        packages: that it needs beside those of the service; `pip install 'shoe-classifier[export]'` brings all of them.
    """

    extension: str
    media_type: str
    packages: tuple[str, ...] = ()

    def check_packages(self) -> None:
        """Raise `ExportUnavailable` if packages are missing, with the way to install them."""
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise ExportUnavailable(
                f"Expected the packages {' and '.join(self.packages)}, which this format needs; {' and '.join(missing)}"
                f" {'is' if len(missing) == 1 else 'are'} not installed. Install them where the service runs, with "
                "`make export-packages` or `pip install 'shoe-classifier[export]'`."
            )


FORMATS: dict[ExportFormat, FormatInfo] = {
    "tflite": FormatInfo("tflite", "application/octet-stream"),
    "onnx": FormatInfo("onnx", "application/octet-stream", ("onnx", "onnxruntime")),
    "web": FormatInfo("html", "text/html"),
}
