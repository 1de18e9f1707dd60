import httpx
import pytest

from helpers.pictures import draw


@pytest.mark.parametrize(
    "path",
    ["/predictions?class=Boot", "/training-data?label=x&page=2", "/retrain?before_=x", "/labels?x=1", "/status?x"],
)
def test_unknown_parameters_are_refused(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert "query parameter" in response.json()["detail"]


def test_also_where_the_framework_is_passed_by(client: httpx.Client) -> None:
    response = client.post("/predict?side=3", files={"file": draw("Boot", 1)})
    assert (response.status_code, response.json()["detail"]) == (
        422,
        "Expected query parameters out of record; received 'side'.",
    )


def test_parameters_that_an_endpoint_only_describes_are_known(client: httpx.Client) -> None:
    response = client.post("/retrain", params={"mode": "quick", "max_seconds": 9, "force": True, "wait": True})
    assert response.json()["code"] == "no_new_data"
    assert client.post("/retrain?modus=quick").status_code == 422
