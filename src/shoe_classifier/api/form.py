"""A form: its text fields and its files, in memory or on disk."""

from dataclasses import dataclass, field
from pathlib import Path

from shoe_classifier.errors import InvalidRequest


@dataclass
class FormFile:
    """An uploaded file: in memory (`data`), or, when it is large and a folder was given, on disk (`path`)."""

    field: str
    name: str
    data: bytes = b""
    path: Path | None = None

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return self.path.stat().st_size if self.path else len(self.data)

    def start(self) -> bytes:
        """The first two bytes, which identify a ZIP."""
        if self.path is None:
            return self.data[:2]
        with self.path.open("rb") as file:
            return file.read(2)

    def read(self) -> bytes:
        """All bytes, wherever they are."""
        return self.path.read_bytes() if self.path else self.data

    def on_disk(self, folder: Path) -> Path:
        """The file's path; a file that is only in memory is written into `folder` first."""
        if self.path is None:
            self.path = folder / "part"
            self.path.write_bytes(self.data)
        return self.path


@dataclass
class Form:
    """The parts of a form: text fields by name, and files in the order they were sent."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[FormFile] = field(default_factory=list)

    def file(self, *names: str) -> FormFile:
        """The file of the field `names[0]`, or of one of its other names. Raises `InvalidRequest` without one."""
        for item in self.files:
            if item.field in names:
                return item
        received = sorted({item.field for item in self.files} | self.fields.keys())
        raise InvalidRequest(f"Expected a file in the form field {names[0]!r}; received {received or 'no fields'}.")
