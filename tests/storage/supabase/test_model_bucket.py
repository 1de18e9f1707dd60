from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from helpers.rows import version
from helpers.supabase_stack import Gateway, Stack, token
from shoe_classifier.errors import InvalidModel, NotFound
from shoe_classifier.files import sha256_of
from shoe_classifier.storage.supabase import model_bucket
from shoe_classifier.storage.supabase.client import SupabaseClient
from shoe_classifier.storage.supabase.model_bucket import ModelBucket
from shoe_classifier.types import ModelVersion


@pytest.fixture
def bucket(gateway: Gateway) -> Iterator[ModelBucket]:
    client = SupabaseClient(gateway.url, token("service_role"), 2)
    yield ModelBucket(client)
    client.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "model.h5"
    file.write_bytes(b"a model")
    return file


def row_of(file: Path) -> ModelVersion:
    return replace(version("v1"), sha256=sha256_of(file))


def test_a_file_comes_back_until_it_is_deleted(bucket: ModelBucket, gateway: Gateway, file: Path) -> None:
    row, target = row_of(file), file.with_name("fetched")
    for _ in range(2):  # as after a lost answer
        bucket.send(row, file)
    assert gateway.buckets["models"] == {"versions/v1.h5": ("application/x-hdf5", b"a model")}
    bucket.fetch(row, target)
    assert target.read_bytes() == b"a model"
    for _ in range(2):
        bucket.delete(row)
    with pytest.raises(NotFound):
        bucket.fetch(row, target)


def test_another_file_in_its_place_is_not_taken(bucket: ModelBucket, file: Path) -> None:
    bucket.send(replace(row_of(file), sha256="0" * 64), file)
    with pytest.raises(InvalidModel, match="the bucket holds another one"):
        bucket.fetch(replace(row_of(file), sha256="0" * 64), file.with_name("fetched"))
    assert not file.with_name("fetched").exists()


@pytest.mark.supabase
def test_only_old_files_without_a_row_are_deleted(stack: Stack, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = SupabaseClient(stack.gateway.url, token("service_role"), 2)
    bucket = ModelBucket(client)
    bucket.send(row_of(file), file)
    bucket.delete_unlisted()  # its row may still come
    assert [*stack.gateway.buckets["models"]] == ["versions/v1.h5"]
    monkeypatch.setattr(model_bucket, "_UNSETTLED", -timedelta(minutes=1))
    bucket.delete_unlisted()
    assert [*stack.gateway.buckets["models"]] == []
    client.close()
