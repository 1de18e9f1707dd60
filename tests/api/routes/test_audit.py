from pydantic import SecretStr

from helpers.service import running
from shoe_classifier.settings import Settings

OWNER, READER = "the-key-of-the-owner", "the-key-of-a-reader"


def test_the_log_is_read_in_pages_and_by_the_owner_only(settings: Settings) -> None:
    guarded = settings.model_copy(update={"api_key": SecretStr(OWNER), "read_key": SecretStr(READER)})
    with running(guarded) as client:
        for name in ("a", "b", "c"):
            client.delete(f"/training-data/{name}")
        assert client.get("/audit-log").status_code == 401
        assert client.get("/audit-log", headers={"X-API-Key": READER}).status_code == 403
        client.headers["X-API-Key"] = OWNER
        first = client.get("/audit-log", params={"limit": 2})
        second = client.get(first.links["next"]["url"])
        assert [row["target"][-1] for row in first.json() + second.json()] == ["c", "b", "a"]
