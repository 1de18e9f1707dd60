import httpx
import pytest

from helpers.pictures import draw, lesson_zip


def test_pages_follow_the_link(client: httpx.Client) -> None:
    client.post("/upload", files={"file": lesson_zip("hat", 7)})
    seen: list[str] = []
    path: str | None = "/training-data?limit=3"
    while path:
        response = client.get(path)
        seen += [row["id"] for row in response.json()]
        path = response.links.get("next", {}).get("url")
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == 7


@pytest.mark.parametrize("path", ["/predictions", "/training-data", "/retrain"])
@pytest.mark.parametrize("query", ["limit=-1", "limit=0", "limit=1001", "limit=x", "before=x", "before=' or 1=1"])
def test_bad_pages(client: httpx.Client, path: str, query: str) -> None:
    response = client.get(f"{path}?{query}")
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_before_says_where_the_page_starts(client: httpx.Client) -> None:
    for i in range(4):
        client.post("/predict", files={"file": draw("Boot", i)})
    rows = client.get("/predictions").json()
    older = client.get("/predictions", params={"before": rows[1]["id"]}).json()
    assert older == rows[2:]


@pytest.mark.parametrize(
    ("name", "status"), [("0" * 64, 404), ("x", 422), ("..%2f..%2fetc%2fpasswd", 404), ("A" * 64, 422)]
)
def test_files_that_are_not_there(client: httpx.Client, name: str, status: int) -> None:
    assert client.get(f"/files/{name}").status_code == status
