from pathlib import Path

from shoe_classifier.storage.supabase.cache import PictureCache


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path, max_bytes=100)
    for number in range(4):
        cache.keep(f"images/aa/aa{number}.jpg", bytes(25))
    assert cache.get("images/aa/aa0.jpg") == bytes(25)  # used, so no longer the oldest
    cache.keep("images/bb/bb.jpg", bytes(25))
    there = [path.name for path in sorted(tmp_path.rglob("*.jpg"))]
    assert "aa0.jpg" in there and "bb.jpg" in there and "aa1.jpg" not in there
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.jpg")) <= 100


def test_pictures_are_found_by_their_hash(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path / "cache", max_bytes=100)
    assert cache.find("ab12") is None
    file = tmp_path / "waiting"
    file.write_bytes(b"one")
    cache.keep("images/ab/ab12.jpg", file)
    assert cache.find("ab12") == "images/ab/ab12.jpg"
    assert not file.exists()
    assert cache.get("images/none.jpg") is None
