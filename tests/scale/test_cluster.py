import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from helpers import bulk
from helpers.bulk import DEADLY, folder_of, predict, predictions_unless_deadly, rows_of
from helpers.ray_cluster import actors_of, add_node, kill, ray_cluster
from helpers.service import wait_for
from helpers.supabase_stack import free_port
from shoe_classifier.errors import ClusterUnavailable, InvalidRequest, StoreUnavailable
from shoe_classifier.scale import cluster as clusters
from shoe_classifier.scale.features import collect, features_of
from shoe_classifier.scale.job import Progress, Request
from shoe_classifier.settings import Settings

on_ray = pytest.mark.scale
pytestmark = [
    pytest.mark.usefixtures("small_shards"),
    pytest.mark.filterwarnings("ignore:::ray", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(900),  # a busy machine starts a node in minutes
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster(3) as started:
        yield started


def once_each(out: Path, count: int) -> bool:
    rows = rows_of(out)
    return len(rows) == len({row["path"] for row in rows}) == count and all(row["label"] for row in rows)


@on_ray
def test_rows_equal_those_of_one_process(cluster: Any, tmp_path: Path, settings: Settings) -> None:
    pictures = folder_of(tmp_path / "pictures", 43)
    (pictures / "bad.jpg").touch()
    end = predict(settings, pictures, tmp_path / "on ray", address=cluster.address, actors=None)
    assert (end.done, end.failed) == (44, 1)
    assert end.where == f"3 actors on 3 nodes of the cluster at {cluster.address}"
    predict(settings, pictures, tmp_path / "plain")
    assert rows_of(tmp_path / "on ray") == rows_of(tmp_path / "plain")


@on_ray
def test_a_killed_actor_loses_nothing(cluster: Any, tmp_path: Path, settings: Settings) -> None:
    pictures = folder_of(tmp_path / "pictures", 150)
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.done and not killed:
            killed.append(actors_of(cluster)[0])
            kill(killed[0])

    end = predict(settings, pictures, tmp_path / "out", kill_one, address=cluster.address, actors=2)
    assert killed and end.done == 150
    assert once_each(tmp_path / "out", 150)


@on_ray
@pytest.mark.slow
def test_a_killed_node_loses_nothing(cluster: Any, tmp_path: Path, settings: Settings) -> None:
    pictures = folder_of(tmp_path / "pictures", 300)
    killed: list[Any] = []

    def kill_one(progress: Progress) -> None:
        if progress.done and not killed:
            killed.append(cluster.list_all_nodes()[-1])
            cluster.remove_node(killed[0], allow_graceful=False)

    end = predict(settings, pictures, tmp_path / "out", kill_one, address=cluster.address, actors=3)
    add_node(cluster)
    assert killed and end.done == 300
    assert once_each(tmp_path / "out", 300)


@on_ray
@pytest.mark.slow
def test_a_killed_command_goes_on(cluster: Any, tmp_path: Path, settings: Settings) -> None:
    folder_of(tmp_path / "pictures", 9000)
    command = [sys.executable, "-m", "shoe_classifier", "scale", "predict", "pictures", "out"]
    command += ["--address", cluster.address, "--actors", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: list((tmp_path / "out").glob("part-*")), 120)
    process.kill()
    process.wait()
    wait_for(lambda: not actors_of(cluster))
    before = len(list((tmp_path / "out").glob("part-*")))
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert f"{500 * before:,} of them were there already" in result.stdout
    assert once_each(tmp_path / "out", 9000)


@on_ray
@pytest.mark.slow
def test_a_picture_that_kills_its_decoder_becomes_a_row(cluster: Any, tmp_path: Path, settings: Settings) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(bulk)  # nodes do not have the tests' own modules
    pictures = folder_of(tmp_path / "pictures", 30)
    (pictures / "Boot" / "00001.jpg").write_bytes(DEADLY)
    end = predict(
        settings, pictures, tmp_path / "out", address=cluster.address, actors=2, look=predictions_unless_deadly
    )
    assert (end.done, end.failed) == (31, 1)
    errors = {row["path"]: row["error"] for row in rows_of(tmp_path / "out")}
    assert "2 processes that tried it were killed" in errors.pop("Boot/00001.jpg")
    assert set(errors.values()) == {None}


@on_ray
@pytest.mark.slow
def test_features_equal_those_of_one_process(cluster: Any, tmp_path: Path, settings: Settings) -> None:
    pictures = folder_of(tmp_path / "pictures", 12, drawn=12)
    for name, address in (("on ray", cluster.address), ("plain", None)):
        request = Request("features", features_of, str(pictures), str(tmp_path / name), 1, address)
        assert collect(request, settings, lambda _: None).done == 12
    parts = [sorted((tmp_path / name).glob("*/features/part-*")) for name in ("on ray", "plain")]
    assert [pq.read_table(part) for part in parts[0]] == [pq.read_table(part) for part in parts[1]]
    assert len(parts[0]) == 3


@on_ray
@pytest.mark.slow
def test_a_source_that_vanishes_stops_the_job(cluster: Any, tmp_path: Path, settings: Settings) -> None:
    pictures = folder_of(tmp_path / "pictures", 300)

    def vanish(progress: Progress) -> None:
        if progress.done and pictures.exists():
            pictures.rename(tmp_path / "elsewhere")

    with pytest.raises(StoreUnavailable, match="not any more"):
        predict(settings, pictures, tmp_path / "out", vanish, address=cluster.address, actors=2)
    assert {row["error"] for row in rows_of(tmp_path / "out")} == {None}


@on_ray
def test_what_the_cluster_cannot_do(
    cluster: Any, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    pictures = folder_of(tmp_path / "pictures", 1)
    with pytest.raises(InvalidRequest, match="at most 3 actors"):
        predict(settings, pictures, tmp_path / "out", address=cluster.address, actors=4)
    monkeypatch.setattr(ray, "__version__", "2.59.0")
    with pytest.raises(ClusterUnavailable, match=r"same versions of Ray and Python.* 2\.59\.0"):
        predict(settings, pictures, tmp_path / "out", address=cluster.address)


def test_no_cluster_at_the_address() -> None:
    with pytest.raises(ClusterUnavailable, match="nothing answers there"):
        clusters.check_address(f"127.0.0.1:{free_port()}")
    with pytest.raises(ClusterUnavailable, match="nothing answers there"):
        clusters.check_address("127.0.0.1:99999")


@pytest.mark.parametrize("address", ["here", "ray://127.0.0.1:10001", ":6379", "127.0.0.1:", "http://127.0.0.1:8265"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(InvalidRequest, match="host:port"):
        clusters.check_address(address)


class _Public:
    """A connection to a public address."""

    def getpeername(self) -> tuple[str, int]:
        return "8.8.8.8", 6379

    def __enter__(self) -> "_Public":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_a_public_address_needs_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_: _Public())
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidRequest, match="whoever reaches a cluster without one"):
        clusters.check_address("cluster.example:6379")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 32)
    clusters.check_address("cluster.example:6379")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(InvalidRequest, match="whoever reaches a cluster without one"):
        clusters.check_address("cluster.example:6379")
