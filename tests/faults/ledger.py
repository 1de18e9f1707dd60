"""What a client knows of a service: what was acknowledged, and what a call without an answer may have done."""

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

import httpx

from helpers.pictures import draw, zip_of

LABELS = ("Boot", "Sandal", "Shoe", "hat")
Rows = dict[str, str]  # labels of the training pictures, by SHA-256


@dataclass
class State:
    """What the service should hold.

    Attributes:
        rows: the training pictures.
        live: the version that serves.
        learned: the training pictures that each version, or an ancestor of it, has learned with the label they have.
    """

    rows: Rows
    live: str
    learned: dict[str, set[str]]

    def copy(self) -> "State":
        return State(dict(self.rows), self.live, {version: set(known) for version, known in self.learned.items()})

    def forget(self, sha256: str) -> None:
        for known in self.learned.values():
            known.discard(sha256)


@dataclass
class Ledger:
    """Calls a service at random, and compares it with what it has acknowledged.

    Attributes:
        client: leads to the service; replaced at each restart.
        possible: the states that the service may be in. More than one only after a call without an answer.
        predictions: ids of answered predictions.
        refusal: the status with which the service may refuse calls at the moment.
        refused: how many it has refused with that.
    """

    client: httpx.Client
    random: random.Random
    possible: list[State]
    predictions: list[str] = field(default_factory=list)
    seed: int = 0
    acknowledged: int = 0
    refusal: int | None = None
    refused: int = 0

    def act(self) -> None:
        """Make one call. Raises `httpx.TransportError` when it has no answer."""
        actions = [self.predict, self._upload, self._upload, self._retrain, self._retrain]
        if self._state.rows:
            actions += [self._relabel, self._delete]
        if len(self._state.learned) > 1:
            actions.append(self._activate)
        self.random.choice(actions)()
        self.acknowledged += 1

    @property
    def _state(self) -> State:
        (state,) = self.possible
        return state

    def _call(self, after: State, method: str, path: str, *refusals: int, **options: Any) -> httpx.Response:
        """Make a call that leads to a state; without an answer, either state is possible."""
        before = self._state
        self.possible = [before, after]
        response = self.client.request(method, path, **options)
        assert response.is_success or response.status_code in (self.refusal, *refusals), response.text
        self.possible = [after if response.is_success else before]
        self.refused += response.status_code == self.refusal
        return response

    def predict(self) -> None:
        """Predict a new picture, which must work whatever is taken away."""
        self.seed += 1
        answer = self.client.post("/predict", files={"file": draw(self.random.choice(LABELS), self.seed)})
        assert answer.status_code == 200, answer.text
        assert answer.json()["model_version"] == self._state.live
        if answer.json()["file_url"]:  # without it, the prediction could not be recorded
            self.predictions.append(answer.json()["prediction_id"])

    def _upload(self) -> None:
        self.seed += 10
        label, after = self.random.choice(LABELS), self._state.copy()
        files = {f"{label}/{number}.jpg": draw(label, self.seed + number) for number in range(4)}
        after.rows |= {hashlib.sha256(data).hexdigest(): label for data in files.values()}
        self._call(after, "POST", "/upload", files={"file": zip_of(files)})

    def _retrain(self) -> None:
        after = self._state.copy()
        after.live = "new"
        after.learned["new"] = set(after.rows)
        query = {"wait": "true", "mode": "quick", "force": "true"}
        before = self._state
        answer = self._call(after, "POST", "/retrain", 409, params=query)  # there may be nothing new
        if not answer.is_success:
            return
        if answer.json()["state"] == "published":
            self._name_new(answer.json()["model_version"])
        else:
            assert self.refusal and answer.json()["state"] == "failed", answer.text
            self.possible = [before]

    def _name_new(self, version: str) -> None:
        for state in self.possible:
            if state.live == "new":
                state.live = version
                state.learned[version] = state.learned.pop("new")

    def _relabel(self) -> None:
        sha256, label, after = self._chosen(), self.random.choice(LABELS), self._state.copy()
        if label != after.rows[sha256]:
            after.rows[sha256] = label
            after.forget(sha256)
        path = f"/training-data/{self._ids()[sha256]}"
        self._call(after, "PATCH", path, json={"label": label})

    def _delete(self) -> None:
        sha256, after = self._chosen(), self._state.copy()
        del after.rows[sha256]
        after.forget(sha256)
        self._call(after, "DELETE", f"/training-data/{self._ids()[sha256]}")

    def _activate(self) -> None:
        after = self._state.copy()
        after.live = self.random.choice([*after.learned])
        self._call(after, "POST", f"/models/{after.live}/activate", 404)  # of old versions, no file is kept

    def _chosen(self) -> str:
        return self.random.choice([*self._state.rows])

    def _ids(self) -> dict[str, str]:
        return {row["sha256"]: row["id"] for row in self._all("/training-data")}

    def check(self) -> None:
        """Compare the service with what it has acknowledged."""
        rows, versions = self._all("/training-data"), self._all("/models", None)
        live = [row["version"] for row in versions if row["state"] == "live"]
        assert len(live) == 1, versions
        if live[0] not in self.possible[0].learned:
            self._name_new(live[0])
        held = State({row["sha256"]: row["shoe_class"] for row in rows}, live[0], {})
        learned = {row["sha256"] for row in rows if row["is_processed"]}
        fitting = [
            state
            for state in self.possible
            if (state.rows, state.live, state.learned[state.live]) == (held.rows, held.live, learned)
        ]
        assert fitting, (held, learned, self.possible)
        self.possible = fitting[:1]
        self._state.learned.pop("new", None)
        assert len(rows) == len(held.rows)
        self._check_pictures(rows)
        self._check_predictions()
        assert {job["state"] for job in self._all("/retrain", None)} <= {"published", "failed", "cancelled", "rejected"}

    def _check_pictures(self, rows: list[dict[str, Any]]) -> None:
        for row in rows[:8]:  # the newest; the others were looked at before
            assert hashlib.sha256(self.client.get(f"/files/{row['sha256']}").content).hexdigest() == row["sha256"]

    def _check_predictions(self) -> None:
        ids = [row["id"] for row in self._all("/predictions")]
        assert len(ids) == len(set(ids))
        assert set(self.predictions) <= set(ids)
        self.predict()

    def _all(self, path: str, limit: int | None = 100) -> list[dict[str, Any]]:
        """All rows of a list, page by page."""
        rows: list[dict[str, Any]] = []
        url: str | None = f"{path}?limit={limit}" if limit else path
        while url:
            page = self.client.get(url)
            rows += page.raise_for_status().json()
            url = page.links.get("next", {}).get("url")
        return rows


def first_state(client: httpx.Client) -> State:
    (version,) = [row["version"] for row in client.get("/models").json()]
    return State({}, version, {version: set()})
