import asyncio

import httpx
import pytest
from fastapi import FastAPI, Response

from shoe_classifier.api.pagination import Before, Limit, link_next_page

ID = "019a8f6e-2c1b-7d10-9a55-3f1f0c4d8e21"


def page(query: str, rows: int = 3) -> httpx.Response:
    app = FastAPI()

    @app.get("/rows")
    def list_rows(response: Response, limit: Limit = 50, before: Before = None) -> dict[str, object]:
        ids = [f"id-{i}" for i in range(rows)][:limit]
        link_next_page(response, "/rows", limit, ids)
        return {"limit": limit, "before": before}

    async def run() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
            return await client.get(f"/rows?{query}")

    return asyncio.run(run())


def test_a_full_page_links_to_the_next_one() -> None:
    assert page("limit=2").links["next"]["url"] == "/rows?limit=2&before=id-1"
    assert "link" not in page("limit=4").headers
    assert "link" not in page("limit=1", rows=0).headers


def test_parameters() -> None:
    assert page("").json() == {"limit": 50, "before": None}
    assert page(f"limit=1000&before={ID}").json() == {"limit": 1000, "before": ID}


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=1001", "limit=x", "before=x", f"before={ID}x"])
def test_wrong_parameters(query: str) -> None:
    assert page(query).status_code == 422
