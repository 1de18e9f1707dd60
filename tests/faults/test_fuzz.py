"""Thousands of damaged pictures, ZIPs and forms: each is the client's mistake, or harmless, and quickly answered."""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from helpers.pictures import draw, zip_of
from helpers.service import make_settings, running

EXAMPLES = int(os.environ.get("FAULT_EXAMPLES", "2000"))
BOUNDARY = b"x" * 20
SLOWEST_SECONDS = 5.0  # the promise is 2 on a machine of one's own

PICTURES = [draw("Boot", 1, kind=kind) for kind in ("JPEG", "PNG", "WebP", "GIF", "BMP", "AVIF")]
PICTURES += [
    draw("Boot", 1, progressive=True),
    (Path(__file__).parents[1] / "fixtures" / "two_colours.heic").read_bytes(),
]
ZIPS = [zip_of({f"hat/{i}.jpg": draw("hat", i) for i in range(2)}), zip_of({"a/b/c.txt": b"c", "hat/": b""})]
FORMS = [
    b"--%b\r\nContent-Disposition: form-data; name=\"%b\"; filename=\"a.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n%b\r\n"
    b"--%b\r\nContent-Disposition: form-data; name=\"label\"\r\n\r\nhat\r\n--%b--\r\n"
    % (BOUNDARY, name, PICTURES[0], BOUNDARY, BOUNDARY)
    for name in (b"file", b"files", b"zip_file")
]  # fmt: skip
PATHS = ("/predict", "/predict/batch", "/explain", "/upload", "/upload-zip", "/retrain")

Damage = tuple[str, float, bytes]
DAMAGES = st.lists(
    st.tuples(
        st.sampled_from(["overwrite", "insert", "delete", "truncate", "repeat"]),
        st.floats(0, 1),
        st.binary(min_size=1, max_size=8)
        | st.sampled_from([b"\0" * 4, b"\xff" * 4, b"PK\1\2", b"PK\5\6", b"\r\n--", b"../"]),
    ),
    min_size=1,
    max_size=4,
)
fuzzing = hypothesis_settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def damage(data: bytes, damages: list[Damage]) -> bytes:
    for kind, place, piece in damages:
        start = int(place * len(data))
        end = start + len(piece)
        match kind:
            case "overwrite":
                data = data[:start] + piece + data[end:]
            case "insert":
                data = data[:start] + piece + data[start:]
            case "delete":
                data = data[:start] + data[end:]
            case "truncate":
                data = data[:start]
            case _:
                data += data[start : start + 4096]
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def service(folder: Path, model_file: Path) -> Iterator[httpx.Client]:
    settings = make_settings(folder / "inside", min_training_side=2, silence_seconds=2)
    settings.models_dir.mkdir(parents=True)
    shutil.copy(model_file, settings.live_model)
    with running(settings) as client:
        yield client
        assert client.post("/predict", files={"file": PICTURES[0]}).status_code == 200
    assert list(settings.temp_uploads_dir.iterdir()) == []
    assert [path.name for path in folder.iterdir()] == ["inside"]


@pytest.fixture(scope="module")
def answers() -> Counter[int]:
    return Counter()


def check(response: httpx.Response, answers: Counter[int]) -> None:
    assert response.status_code < 500, response.text
    assert response.is_success or {"detail", "code"} <= set(response.json())
    assert response.elapsed.total_seconds() < SLOWEST_SECONDS
    answers[response.status_code] += 1


@pytest.mark.faults
@fuzzing
@given(picture=st.sampled_from(PICTURES), damages=DAMAGES, path=st.sampled_from(("/predict", "/explain", "/upload")))
def test_pictures(
    service: httpx.Client, answers: Counter[int], picture: bytes, damages: list[Damage], path: str
) -> None:
    check(service.post(path, files={"file": damage(picture, damages)}, data={"label": "hat"}), answers)


@pytest.mark.faults
@fuzzing
@given(archive=st.sampled_from(ZIPS), damages=DAMAGES, path=st.sampled_from(("/predict/batch", "/upload")))
def test_zips(service: httpx.Client, answers: Counter[int], archive: bytes, damages: list[Damage], path: str) -> None:
    name = "files" if path == "/predict/batch" else "file"
    check(service.post(path, files={name: ("a.zip", damage(archive, damages))}), answers)


@pytest.mark.faults
@fuzzing
@given(form=st.sampled_from(FORMS), damages=DAMAGES, path=st.sampled_from(PATHS))
def test_forms(service: httpx.Client, answers: Counter[int], form: bytes, damages: list[Damage], path: str) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    check(service.post(path, content=damage(form, damages), headers=headers), answers)


@pytest.mark.faults
def test_figures(answers: Counter[int], record_property: Callable[[str, object], None]) -> None:
    """Not a test of its own: what the tests above have received."""
    record_property("Damaged pictures, ZIPs and forms", dict(answers))
