from pathlib import Path

import pytest

from shoe_classifier.api.form import Form, FormFile
from shoe_classifier.errors import InvalidRequest


@pytest.fixture(params=["memory", "disk"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> FormFile:
    """The same file, in memory and on disk."""
    if request.param == "memory":
        return FormFile("file", "x.zip", b"PK and more")
    (tmp_path / "part0").write_bytes(b"PK and more")
    return FormFile("file", "x.zip", path=tmp_path / "part0")


def test_a_file_is_the_same_wherever_it_is(file: FormFile, tmp_path: Path) -> None:
    assert (file.size, file.start(), file.read()) == (11, b"PK", b"PK and more")
    path = file.on_disk(tmp_path)
    assert path.read_bytes() == b"PK and more"
    assert file.on_disk(tmp_path) == path == file.path


def test_files_are_found_by_any_of_their_names() -> None:
    first, second = FormFile("zip_file", "a"), FormFile("file", "b")
    form = Form(files=[first, second])
    assert form.file("file") is second
    assert form.file("file", "zip_file") is first  # in the order of the form


def test_a_missing_file_names_the_fields_received() -> None:
    form = Form(fields={"label": "hat"}, files=[FormFile("picture", "x")])
    with pytest.raises(InvalidRequest, match=r"'file'; received \['label', 'picture'\]"):
        form.file("file", "zip_file")
    with pytest.raises(InvalidRequest, match="received no fields"):
        Form().file("file")
