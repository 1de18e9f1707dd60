from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from helpers.supabase_stack import Gateway, token
from shoe_classifier.errors import NotFound, StoreRefused, StoreUnavailable
from shoe_classifier.storage.supabase.cache import PictureCache
from shoe_classifier.storage.supabase.client import SupabaseClient
from shoe_classifier.storage.supabase.outbox import Outbox
from shoe_classifier.storage.supabase.picture_bucket import PictureBucket
from shoe_classifier.types import picture_path

ONE, TWO = picture_path("ab" * 32, ".jpg"), picture_path("cd" * 32, ".png")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "outbox.sqlite3", 100, 1 << 20)
    yield outbox
    outbox.close()


@pytest.fixture
def bucket(gateway: Gateway, outbox: Outbox, tmp_path: Path) -> Iterator[PictureBucket]:
    client = SupabaseClient(gateway.url, token("service_role"), 2)
    bucket = PictureBucket(client, "uploads", outbox, PictureCache(tmp_path / "cache", 1 << 20), url_seconds=60)
    yield bucket
    bucket.close()
    client.close()


def downloads(gateway: Gateway) -> int:
    return sum(count for call, count in gateway.calls.items() if call.startswith("GET /storage/v1/object/uploads/"))


def test_pictures_are_sent_with_their_media_type(bucket: PictureBucket, gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"two")
    bucket.send(ONE, b"one")
    bucket.send_all([(TWO, file)])
    assert gateway.buckets["uploads"] == {ONE: ("image/jpeg", b"one"), TWO: ("image/png", b"two")}


def test_one_refused_picture_fails_the_whole_call(bucket: PictureBucket, gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"two")
    gateway.refuse = 413
    with pytest.raises(StoreRefused, match="413"):
        bucket.send_all([(ONE, file), (TWO, file)])


def test_pictures_come_in_order_and_are_fetched_once(bucket: PictureBucket, gateway: Gateway) -> None:
    paths = [picture_path(f"{number:064}", ".jpg") for number in range(50)]
    for number, path in enumerate(paths):
        gateway.buckets["uploads"][path] = ("image/jpeg", str(number).encode())
    gateway.delay = 0.05
    for _ in range(2):
        assert list(bucket.pictures(paths)) == [str(number).encode() for number in range(50)]
    assert downloads(gateway) == 50
    assert gateway.most_at_once > 2  # one by one, a new disk would wait long for its pictures


def test_a_missing_picture_fails_in_its_turn(bucket: PictureBucket, gateway: Gateway) -> None:
    gateway.buckets["uploads"][ONE] = ("image/jpeg", b"one")
    pictures = bucket.pictures([ONE, TWO])
    assert next(pictures) == b"one"
    with pytest.raises(NotFound):
        next(pictures)


def test_what_waits_in_the_outbox_is_found_without_the_network(
    bucket: PictureBucket, gateway: Gateway, outbox: Outbox
) -> None:
    outbox.add("Predict", "{}", "id", ONE, b"one")
    assert bucket.find_picture("ab" * 32) == (ONE, b"one")
    assert not gateway.calls


def test_a_picture_is_found_by_its_hash(bucket: PictureBucket, gateway: Gateway) -> None:
    gateway.buckets["uploads"][TWO] = ("image/png", b"two")
    assert bucket.find_picture("cd" * 32) == (TWO, b"two")
    with pytest.raises(NotFound, match="abab"):
        bucket.find_picture("ab" * 32)


def test_a_deleted_picture_is_gone_from_everywhere(
    bucket: PictureBucket, gateway: Gateway, outbox: Outbox, tmp_path: Path
) -> None:
    outbox.add("Predict", "{}", "id", ONE, b"one")
    bucket.send(ONE, b"one")
    file = tmp_path / "file"
    file.write_bytes(b"one")
    bucket.keep(ONE, file)
    bucket.delete([ONE])
    assert not gateway.files and outbox.unsent(ONE) is None
    with pytest.raises(NotFound):
        bucket.find_picture("ab" * 32)


def test_a_picture_that_another_machine_deleted_leaves_the_cache(
    bucket: PictureBucket, gateway: Gateway, tmp_path: Path
) -> None:
    bucket.send(ONE, b"one")
    assert bucket.find_picture("ab" * 32) == (ONE, b"one")
    assert (tmp_path / "cache" / ONE).exists()
    del gateway.buckets["uploads"][ONE]
    with pytest.raises(NotFound):
        bucket.find_picture("ab" * 32)
    assert not (tmp_path / "cache" / ONE).exists()


def test_a_cached_picture_is_served_while_the_project_does_not_answer(bucket: PictureBucket, gateway: Gateway) -> None:
    bucket.send(ONE, b"one")
    assert bucket.find_picture("ab" * 32) == (ONE, b"one")
    gateway.stop()
    try:
        assert bucket.find_picture("ab" * 32) == (ONE, b"one")
        with pytest.raises(StoreUnavailable):
            bucket.find_picture("cd" * 32)
    finally:
        gateway.start()


def test_addresses_are_signed_where_the_picture_is_stored(bucket: PictureBucket, gateway: Gateway) -> None:
    bucket.send(ONE, b"one")
    urls = bucket.urls([ONE, TWO, ONE])
    assert httpx.get(urls[ONE]).content == b"one"
    assert urls[TWO] == f"/files/{'cd' * 32}"
    assert bucket.urls([]) == {}


def test_rows_can_be_read_while_storage_is_down(bucket: PictureBucket, gateway: Gateway) -> None:
    bucket.send(ONE, b"one")
    kept = gateway.buckets.pop("uploads")
    assert bucket.urls([ONE]) == {ONE: f"/files/{'ab' * 32}"}
    assert bucket.error and "Supabase Storage" in bucket.error
    gateway.buckets["uploads"] = kept
    assert bucket.urls([ONE])[ONE].startswith(gateway.url)
    assert bucket.error is None
