from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.bulk import predict
from helpers.pictures import draw
from helpers.s3 import Bucket, s3_bucket
from shoe_classifier.errors import InvalidRequest, NotFound, StoreUnavailable, TooLarge
from shoe_classifier.scale import bucket as buckets
from shoe_classifier.scale.manifest import Entry, open_source
from shoe_classifier.settings import Settings


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with s3_bucket() as started:
        monkeypatch.setenv("AWS_ENDPOINT_URL", started.url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        buckets.file_system.cache_clear()
        yield started
    buckets.file_system.cache_clear()


def test_pictures_in_a_bucket(bucket: Bucket, settings: Settings) -> None:
    bucket.files |= {
        "shop/pictures/Boot/1.jpg": b"boot",
        "shop/pictures/Boot/text.txt": b"x",
        "shop/pictures/top.png": b"top",
        "shop/other/2.jpg": b"other",
    }
    source = open_source("s3://shop/pictures/", settings)
    source.check()
    assert sorted(source.entries(), key=lambda entry: entry.path) == [
        Entry("Boot/1.jpg", "Boot"),
        Entry("top.png", None),
    ]
    assert source.fetch("Boot/1.jpg") == b"boot"
    with pytest.raises(NotFound, match="not in the bucket"):
        source.fetch("Boot/2.jpg")
    small = open_source("s3://shop/pictures", settings.model_copy(update={"max_image_bytes": 2}))
    with pytest.raises(TooLarge):
        small.fetch("Boot/1.jpg")


def test_a_bucket_that_is_gone(bucket: Bucket, settings: Settings) -> None:
    bucket.files["shop/pictures/1.jpg"] = b"x"
    with pytest.raises(StoreUnavailable, match="there are none"):
        open_source("s3://shop/none", settings).check()
    source = open_source("s3://shop/pictures", settings)
    bucket.broken = True
    for ask in (source.check, lambda: source.fetch("1.jpg"), lambda: list(source.entries())):
        with pytest.raises(StoreUnavailable, match="by S3"):
            ask()


def test_from_bucket_to_bucket(bucket: Bucket, settings: Settings) -> None:
    bucket.files |= {f"shop/pictures/{number}.jpg": draw("Boot", number) for number in range(3)}
    end = predict(settings, "s3://shop/pictures", "s3://shop/out")
    assert (end.done, end.failed) == (3, 0)
    written = {"_job.json", "_manifest.parquet", "_model.h5", "part-000000.parquet"}
    found = {name.removeprefix("shop/out/") for name in bucket.files if name.startswith("shop/out/")}
    assert found - {""} == written  # Arrow marks the folder when it deletes something
    again = predict(settings, "s3://shop/pictures", "s3://shop/out")
    assert (again.earlier, again.per_second) == (3, 0)


def test_a_list_of_pictures_in_a_bucket(bucket: Bucket, tmp_path: Path, settings: Settings) -> None:
    bucket.files["shop/1.jpg"] = b"x"
    (tmp_path / "list.csv").write_text("path\ns3://shop/1.jpg\n")
    assert open_source(str(tmp_path / "list.csv"), settings).fetch("s3://shop/1.jpg") == b"x"


def test_what_is_no_address() -> None:
    with pytest.raises(InvalidRequest, match="s3://bucket/folder"):
        buckets.key_of("s3:///")
