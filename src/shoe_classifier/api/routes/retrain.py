"""`/retrain`: start, watch and cancel the learning."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import anyio.to_thread
import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, ValidationError

from shoe_classifier.api.dependencies import Before, Limit, MayWrite, Service, Services
from shoe_classifier.api.multipart import Form, private_folder, read_form
from shoe_classifier.api.openapi import RETRAIN_FORM, errors
from shoe_classifier.api.pagination import next_page
from shoe_classifier.api.schemas import JobBody
from shoe_classifier.errors import InvalidRequest, NothingAccepted, StoreUnavailable
from shoe_classifier.types import RetrainJob

router = APIRouter(prefix="/retrain", tags=["teach"])

_WATCH_SECONDS = 0.2
_WATCH_ELSEWHERE_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 2  # also how long a page that watches is deaf to its user


class Options(BaseModel):
    """How to retrain; in the form, or in the query."""

    mode: Literal["auto", "quick", "full"] = "auto"
    max_seconds: int | None = Field(None, ge=1, le=86_400)
    force: bool = False


@router.post(
    "",
    summary="Learn from what was uploaded",
    status_code=202,
    response_model=JobBody,
    responses=errors(401, 403, 408, 409, 413, 422, 503, 507),
    openapi_extra=RETRAIN_FORM,
    dependencies=[MayWrite],
)
async def retrain(
    request: Request,
    response: Response,
    service: Services,
    wait: Annotated[bool, Query(description="Answer only when the job has ended, with 200.")] = False,
) -> RetrainJob:
    service.retrainer.check_idle()
    options = await _options_and_pictures(request, service)
    job = await anyio.to_thread.run_sync(
        service.retrainer.start, options.mode, options.max_seconds, options.force, abandon_on_cancel=False
    )
    if wait:
        job = await anyio.to_thread.run_sync(service.retrainer.wait, job.job_id, abandon_on_cancel=True)
        response.status_code = 200
    return job


@router.get("", summary="Retrain jobs, newest first", response_model=list[JobBody], responses=errors(422))
async def jobs(response: Response, service: Services, limit: Limit = 50, before: Before = None) -> list[RetrainJob]:
    rows = await anyio.to_thread.run_sync(service.retrainer.jobs, limit, before)
    next_page(response, "/retrain", limit, [row.job_id for row in rows])
    return rows


@router.get("/{job_id}", summary="One job", response_model=JobBody, responses=errors(404))
async def job(job_id: str, service: Services) -> RetrainJob:
    return await anyio.to_thread.run_sync(service.retrainer.job, job_id)


@router.get("/{job_id}/events", summary="The progress of a job, as server-sent events", responses=errors(404))
async def events(job_id: str, service: Services) -> StreamingResponse:
    found = await anyio.to_thread.run_sync(service.retrainer.job, job_id)
    return StreamingResponse(
        _events(found, service), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
    )


@router.delete(
    "/{job_id}",
    summary="Cancel a job",
    status_code=202,
    response_model=JobBody,
    responses=errors(401, 403, 404, 409),
    dependencies=[MayWrite],
)
async def cancel(job_id: str, service: Services) -> RetrainJob:
    return await anyio.to_thread.run_sync(service.retrainer.cancel, job_id)


async def _options_and_pictures(request: Request, service: Service) -> Options:
    """Read the options, and take in the ZIP when one came."""
    settings = service.settings
    form = Form()
    async with private_folder(settings.temp_uploads_dir) as folder:
        if request.headers.get("content-type"):
            form = await read_form(request, settings.max_zip_bytes, settings.silence_seconds, folder)
        options = _options({**request.query_params, **form.fields})
        if form.files and (form.files[0].path or form.files[0].data or form.files[0].name):
            await anyio.to_thread.run_sync(_take, service, form, folder)
    return options


def _options(values: dict[str, str]) -> Options:
    try:
        return Options(**{name: value for name, value in values.items() if value != ""})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise InvalidRequest(
            f"Expected {name} to be valid: {first['msg']}; received {str(first['input'])[:80]!r}."
        ) from None


def _take(service: Service, form: Form, folder: Path) -> None:
    """A ZIP whose pictures are all known already is no reason to refuse when others wait."""
    file = form.file("file", "zip_file")
    known = service.live_model.live.bundle.labels
    try:
        service.ingestion.ingest(file.on_disk(folder), file.name, None, folder, known)
    except NothingAccepted:
        if not service.store.count_unprocessed():
            raise


async def _events(job: RetrainJob, service: Service) -> AsyncIterator[bytes]:
    """An event whenever something changed, and a comment now and then, so that proxies keep the line open."""
    last, silent, pause = b"", 0.0, _WATCH_SECONDS
    while not service.stopping:
        finished = job.finished  # before the copy, so that the last event is never older than the end
        present = orjson.dumps(asdict(job))
        if present != last:
            name = "end" if finished else "progress"
            yield b"event: " + name.encode() + b"\ndata: " + present + b"\n\n"
            last, silent = present, 0.0
        if finished:
            return
        await asyncio.sleep(pause)
        silent += pause
        if silent > _KEEP_ALIVE_SECONDS:
            yield b": still there\n\n"
            silent = 0.0
        before, job = job, await anyio.to_thread.run_sync(_again, job, service)
        pause = _WATCH_SECONDS if job is before else _WATCH_ELSEWHERE_SECONDS


def _again(job: RetrainJob, service: Service) -> RetrainJob:
    """The same object while the job runs here; a new row of the store when it runs elsewhere."""
    try:
        return service.retrainer.job(job.job_id)
    except StoreUnavailable:  # for a moment, perhaps
        return job
