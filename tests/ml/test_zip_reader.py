import io
import struct
import zipfile
from pathlib import Path

import pytest

from helpers.attacks import hidden_entries
from helpers.pictures import zip_of
from shoe_classifier.errors import InvalidZip, TooLarge
from shoe_classifier.ml.zip_reader import Picture, Skipped, ZipLimits, read_labelled, read_pictures

LIMITS = ZipLimits(max_files=20, max_bytes=10_000, max_file_bytes=5_000)


def read(tmp_path: Path, data: bytes, limits: ZipLimits = LIMITS) -> list[Picture | Skipped]:
    path = tmp_path / "x.zip"
    path.write_bytes(data)
    return list(read_labelled(path, limits))


def labels(entries: list[Picture | Skipped]) -> list[tuple[str, str]]:
    return [(e.label, e.name) if isinstance(e, Picture) else (e.reason, e.name) for e in entries]


def test_labelled_folders(tmp_path: Path) -> None:
    entries = read(tmp_path, zip_of({"Boot/a.jpg": b"1", "Shoe/b.jpg": b"2"}))
    assert entries == [Picture("Boot", "Boot/a.jpg", b"1"), Picture("Shoe", "Shoe/b.jpg", b"2")]


@pytest.mark.parametrize("files", [{}, {"Boot/": b"", "Shoe/": b""}])
def test_a_zip_without_files_has_no_pictures(tmp_path: Path, files: dict[str, bytes]) -> None:
    assert read(tmp_path, zip_of(files)) == []


def test_one_wrapping_folder(tmp_path: Path) -> None:
    entries = read(tmp_path, zip_of({"mine/Boot/a.jpg": b"1", "mine/Shoe/b.jpg": b"2", "mine/README.txt": b"3"}))
    assert labels(entries) == [
        ("Boot", "mine/Boot/a.jpg"),
        ("Shoe", "mine/Shoe/b.jpg"),
        ("unsupported", "mine/README.txt"),
    ]


def test_two_wrapping_folders_are_no_labels(tmp_path: Path) -> None:
    entries = read(tmp_path, zip_of({"a/Boot/1.jpg": b"1", "b/Boot/2.jpg": b"2"}))
    assert [reason for reason, _ in labels(entries)] == ["unsupported", "unsupported"]
    assert isinstance(entries[0], Skipped)
    assert entries[0].detail == "Not inside a labelled folder."


def test_clutter_is_ignored(tmp_path: Path) -> None:
    names = ["__MACOSX/Boot/._a.jpg", "Boot/.DS_Store", "Boot/Thumbs.db", "Boot/a.jpg"]
    assert [reason for reason, _ in labels(read(tmp_path, zip_of(dict.fromkeys(names, b"1"))))] == [
        "ignored",
        "ignored",
        "ignored",
        "Boot",
    ]


def test_backslashes_and_folders_without_files(tmp_path: Path) -> None:
    assert labels(read(tmp_path, zip_of({"Boot/": b"", "Boot\\a.jpg": b"1"}))) == [("Boot", "Boot\\a.jpg")]


@pytest.mark.parametrize(
    "name",
    ["../../evil/a.png", "/etc/a.png", "C:/x/a.png", "Boot/../a.png", "..\\evil\\a.png", "a.png", "Boot/sub/a/b.png"],
)
def test_paths_that_lead_elsewhere_give_no_label(tmp_path: Path, name: str) -> None:
    entries = read(tmp_path, zip_of({name: b"1", "Boot/a.jpg": b"2"}))
    assert labels(entries) == [("unsupported", name), ("Boot", "Boot/a.jpg")]


def test_nul_in_a_name(tmp_path: Path) -> None:
    data = zip_of({"Boot/aXb.jpg": b"1"}).replace(b"aXb", b"a\0b")
    assert [reason for reason, _ in labels(read(tmp_path, data))] == ["unsupported"]


def test_symbolic_links(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo("Boot/link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert labels(read(tmp_path, out.getvalue())) == [("unsupported", "Boot/link.jpg")]


def test_encrypted_entries(tmp_path: Path) -> None:
    data = bytearray(zip_of({"Boot/a.jpg": b"1"}))
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    entry = read(tmp_path, bytes(data))[0]
    assert isinstance(entry, Skipped)
    assert "encrypted" in entry.detail


def test_damaged_entry_is_corrupt(tmp_path: Path) -> None:
    data = zip_of({"Boot/a.jpg": b"abcdef", "Boot/b.jpg": b"2"}).replace(b"abcdef", b"abXdef")
    assert labels(read(tmp_path, data)) == [("corrupt", "Boot/a.jpg"), ("Boot", "Boot/b.jpg")]


def test_large_entry_is_left_out(tmp_path: Path) -> None:
    assert labels(read(tmp_path, zip_of({"Boot/a.jpg": bytes(5_001)}))) == [("unsupported", "Boot/a.jpg")]


def test_too_many_files(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="at most 20 files"):
        read(tmp_path, zip_of({f"Boot/{i}.jpg": b"" for i in range(21)}))


def test_too_many_bytes(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="at most 10,000 bytes"):
        read(tmp_path, zip_of({f"Boot/{i}.jpg": bytes(4_000) for i in range(3)}))


def test_overlapping_entries(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("Boot/a.jpg", b"1" * 100)
        archive.writestr("Boot/b.jpg", b"2" * 100)
        archive.infolist()[1].header_offset = 0
    with pytest.raises(InvalidZip, match="overlaps"):
        read(tmp_path, out.getvalue())


def test_a_file_that_unpacks_to_less_than_it_says(tmp_path: Path) -> None:
    data = bytearray(zip_of({"Boot/a.jpg": b"12345"}))
    directory = data.index(b"PK\1\2")
    struct.pack_into("<I", data, directory + 24, 500)
    with pytest.raises(InvalidZip, match="Expected 500 bytes"):
        read(tmp_path, bytes(data))


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\3\4 and no more", b"text", bytes(100)])
def test_no_zip(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InvalidZip, match="Expected a ZIP"):
        read(tmp_path, data)


def test_cut_zip(tmp_path: Path) -> None:
    data = zip_of({"Boot/a.jpg": b"1" * 500})
    with pytest.raises(InvalidZip):
        read(tmp_path, data[:-30])


def test_utf8_names_without_the_flag(tmp_path: Path) -> None:
    data = bytearray(zip_of({"Stövel/a.jpg": b"1"}))
    for at in (data.index(b"PK\3\4") + 6, data.index(b"PK\1\2") + 8):
        struct.pack_into("<H", data, at, 0)
    assert labels(read(tmp_path, bytes(data))) == [("Stövel", "Stövel/a.jpg")]


def test_pictures_without_labels(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zip_of({"a.jpg": b"1", "deep/er/b.jpg": b"2"}))
    assert [entry.name for entry in read_pictures(path, LIMITS)] == ["a.jpg", "deep/er/b.jpg"]


def test_the_directory_is_counted_not_the_end_record(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="at most 20 files in the ZIP; received 21"):
        read(tmp_path, hidden_entries(21))


def test_a_large_directory_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="table of contents has at most 900 bytes"):
        read(tmp_path, hidden_entries(20), ZipLimits(max_files=20, max_directory_bytes=900))


def test_comments_and_extra_fields_belong_to_their_entry(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.comment = b"of the archive"
        with archive.open(zipfile.ZipInfo("Boot/a.jpg"), "w", force_zip64=True) as file:
            file.write(b"1")
        archive.infolist()[0].comment = b"of the entry"
    assert labels(read(tmp_path, out.getvalue())) == [("Boot", "Boot/a.jpg")]


def test_a_zip64_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    data = zip_of({"Boot/a.jpg": b"1", "Boot/b.jpg": b"2"})
    assert b"PK\6\6" in data
    assert len(read(tmp_path, data)) == 2


def test_empty_files_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = zip_of({"Boot/a.jpg": b""})
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("an empty file was opened"))
    assert labels(read(tmp_path, data)) == [("corrupt", "Boot/a.jpg")]
