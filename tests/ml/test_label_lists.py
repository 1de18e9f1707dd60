import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.pictures import zip_of
from shoe_classifier.errors import InvalidZip
from shoe_classifier.ml.label_lists import Listed, Origin, match, parse, parse_project
from shoe_classifier.ml.zip_reader import Picture, Skipped, ZipLimits, read_labelled

TASK: dict[str, Any] = {
    "id": 1,
    "data": {"image": "/data/upload/1/1a2b3c4d-a.jpg"},
    "annotations": [{"was_cancelled": False, "result": [{"type": "choices", "value": {"choices": ["Boot"]}}]}],
}
COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "annotations": [{"image_id": 1, "category_id": 7}, {"image_id": 2, "category_id": 8}],
    "categories": [{"id": 7, "name": "Boot"}, {"id": 8, "name": "Shoe"}],
}
PROJECT = json.dumps({"type": "image", "version": "2.4.10", "appdata": {"trainEpochs": 50}}).encode()


def read(tmp_path: Path, files: dict[str, bytes], **limits: int) -> list[Picture | Skipped]:
    (tmp_path / "x.zip").write_bytes(zip_of(files))
    return list(read_labelled(tmp_path / "x.zip", ZipLimits(**limits)))


def labels(entries: list[Picture | Skipped]) -> list[tuple[str, str]]:
    return [(e.name, e.label if isinstance(e, Picture) else f"- {e.reason}") for e in entries]


def dump(content: object) -> bytes:
    return json.dumps(content).encode()


def test_teachable_machine_project(tmp_path: Path) -> None:
    files = {"Class 1-!-0.jpg": b"1", "a-!-b-!-12.jpg": b"2", "manifest.json": PROJECT}
    expected = [("Class 1-!-0.jpg", "Class 1"), ("a-!-b-!-12.jpg", "a-!-b")]
    assert labels(read(tmp_path, files)) == expected
    wrapped = read(tmp_path, {f"project/{name}": data for name, data in files.items()})
    assert labels(wrapped) == [(f"project/{name}", label) for name, label in expected]


def test_a_teachable_machine_project_of_sounds(tmp_path: Path) -> None:
    manifest = dump({"type": "audio", "version": "2.4.7", "appdata": {}})
    with pytest.raises(
        InvalidZip, match="Expected an image project of Teachable Machine; received one of type 'audio'"
    ):
        read(tmp_path, {"a-!-0.zip": b"1", "manifest.json": manifest})


@pytest.mark.parametrize(
    "address",
    ["/data/upload/1/1a2b3c4d-a.jpg", "/data/local-files/?d=mine/a.jpg", "https://example.com/x/a.jpg?v=1", "a.jpg"],
)
def test_label_studio(tmp_path: Path, address: str) -> None:
    task = {**TASK, "data": {"image": address}}
    assert labels(read(tmp_path, {"images/a.jpg": b"1", "project.json": dump([task])})) == [("images/a.jpg", "Boot")]


def test_label_studio_with_its_own_names_of_things(tmp_path: Path) -> None:
    task = {**TASK, "data": {"note": "hello", "photo": "s3://bucket/a.jpg"}}
    assert labels(read(tmp_path, {"a.jpg": b"1", "x.json": dump([task])})) == [("a.jpg", "Boot")]


def test_label_studio_min(tmp_path: Path) -> None:
    tasks = [{"image": "a.jpg", "id": 1, "choice": "Boot"}, {"image": "b.jpg", "id": 2, "choice": ["Boot", "Shoe"]}]
    entries = read(tmp_path, {"a.jpg": b"1", "b.jpg": b"2", "x.json": dump(tasks)})
    assert labels(entries) == [("a.jpg", "Boot"), ("b.jpg", "- unsupported")]


def test_label_studio_without_agreement() -> None:
    other = {"result": [{"value": {"choices": ["Shoe"]}}]}
    cancelled = {**other, "was_cancelled": True}
    [two] = parse(dump([{**TASK, "annotations": [*TASK["annotations"], other]}])) or []
    assert (two.label, two.problem) == ("", "Expected one label; the list gives it 2.")
    [one] = parse(dump([{**TASK, "annotations": [*TASK["annotations"], cancelled]}])) or []
    assert one.label == "Boot"
    [none] = parse(dump([{**TASK, "annotations": []}])) or []
    assert none.problem == "Expected one label; the list gives it none."


def test_coco(tmp_path: Path) -> None:
    files = {"train/a.jpg": b"1", "train/b.jpg": b"2", "annotations.json": dump(COCO)}
    assert labels(read(tmp_path, files)) == [("train/a.jpg", "Boot"), ("train/b.jpg", "Shoe")]


@pytest.mark.parametrize(
    "text",
    [
        "path,label\nx/a.jpg,Boot\nx/b.jpg,Shoe\n",
        "\ufeffLabel;Split;File\r\nBoot;train;x/a.jpg\r\nShoe;train;x\\b.jpg\r\n",
        "x/a.jpg,Boot\n./x/b.jpg,Shoe",
        'id\timage\tchoice\n1\tx/a.jpg\tBoot\n2\t"x/b.jpg"\tShoe\n',
    ],
)
def test_csv(tmp_path: Path, text: str) -> None:
    entries = read(tmp_path, {"x/a.jpg": b"1", "x/b.jpg": b"2", "labels.csv": text.encode()})
    assert labels(entries) == [("x/a.jpg", "Boot"), ("x/b.jpg", "Shoe")]


def test_what_list_and_archive_do_not_share_is_named(tmp_path: Path) -> None:
    text = "path,label\na.jpg,Boot\ngone.jpg,Boot\n../../etc/passwd,Boot\n"
    entries = read(tmp_path, {"a.jpg": b"1", "b.jpg": b"2", "labels.csv": text.encode()})
    assert labels(entries) == [
        ("a.jpg", "Boot"),
        ("b.jpg", "- ignored"),
        ("gone.jpg", "- ignored"),
        ("../../etc/passwd", "- ignored"),
    ]


def test_a_file_with_two_labels_has_none(tmp_path: Path) -> None:
    entries = read(tmp_path, {"a.jpg": b"1", "x.csv": b"path,label\na.jpg,Boot\na.jpg,Shoe\n"})
    assert labels(entries) == [("a.jpg", "- unsupported")]


def test_two_lists_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(InvalidZip, match=r"Expected one list of labels; received 'a\.csv' and 'b\.json'"):
        read(tmp_path, {"a.jpg": b"1", "a.csv": b"path,label\na.jpg,Boot\n", "b.json": dump(COCO)})


def test_files_that_are_no_lists_leave_the_folders(tmp_path: Path) -> None:
    files = {"Boot/a.jpg": b"1", "Boot/meta.json": b"{}", "notes.csv": b"a,b\n1,2\n", "x.json": b"[1, {]"}
    entries = read(tmp_path, files)
    assert labels(entries)[0] == ("Boot/a.jpg", "Boot")
    assert [entry.detail for entry in entries if isinstance(entry, Skipped)] == [
        "Expected a list of labels (a CSV with the columns path and label, COCO, Label Studio's JSON, or a Teachable "
        "Machine image project); it is none."
    ] * 2


def test_a_list_that_is_too_large_is_none(tmp_path: Path) -> None:
    files = {"Boot/a.jpg": b"1", "x.csv": b"path,label\nBoot/a.jpg,Shoe\n"}
    assert labels(read(tmp_path, files, max_list_bytes=10))[0] == ("Boot/a.jpg", "Boot")
    assert labels(read(tmp_path, files)) == [("Boot/a.jpg", "Shoe")]


def test_many_small_files_are_not_looked_into(tmp_path: Path) -> None:
    files = {f"{i}.csv": b"path,label\nBoot/a.jpg,Shoe\n" for i in range(11)}
    assert labels(read(tmp_path, {"Boot/a.jpg": b"1", **files}))[0] == ("Boot/a.jpg", "Boot")


def test_the_past_of_an_export_is_checked() -> None:
    sha256 = "ab" * 32
    header = "path,label,sha256,source,uploaded_at\n"
    [good] = parse(f"{header}a.jpg,Boot,{sha256},feedback,2026-01-02T04:04:05+01:00\n".encode()) or []
    assert good.origin == Origin(sha256, "feedback", "2026-01-02T03:04:05.000Z")
    forged = ["x,<script>,2999-01-01T00:00:00Z", "AB,A B,1066-10-14T00:00:00Z", f"{'a' * 65},{'a' * 33},yesterday"]
    for line in [*forged, ",,2026-01-02T03:04:05", ",,"]:
        [bad] = parse(f"{header}a.jpg,Boot,{line}\n".encode()) or []
        assert bad.origin == Origin()


@given(st.recursive(st.none() | st.booleans() | st.text(max_size=5) | st.integers(-9, 9), lambda inner: st.lists(
    inner, max_size=3) | st.dictionaries(st.sampled_from([
        "images", "annotations", "categories", "id", "file_name", "image_id", "category_id", "name", "data", "image",
        "result", "value", "choices", "choice", "type", "appdata"]), inner, max_size=5), max_leaves=20))  # fmt: skip
def test_any_json_is_read_or_refused(content: object) -> None:
    for lines in (parse(dump(content)), _project(dump(content))):
        assert lines is None or all(isinstance(line.label, str) and isinstance(line.path, str) for line in lines)


def _project(data: bytes) -> list[Listed] | None:
    try:
        return parse_project(data, ["a-!-0.jpg"])
    except InvalidZip:
        return None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    lines = parse(data)
    found, missing = match(lines or [], ["a.jpg"], "")
    assert len(found) + len(missing) <= len(lines or [])


def test_deep_json_is_refused() -> None:
    assert parse(b"[" * 100_000) is None


def test_names_that_several_files_share_mean_none() -> None:
    lines = [Listed("https://example.com/a.jpg", "Boot"), Listed("x/a.jpg", "Shoe")]
    found, missing = match(lines, ["x/a.jpg", "y/a.jpg"], "")
    assert (list(found), missing) == (["x/a.jpg"], lines[:1])
