"""`/retrain`: start, watch and cancel retrain jobs."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import QueryParams

from shoe_classifier import errors
from shoe_classifier.api.auth import MayRead, MayWrite
from shoe_classifier.api.dependencies import (
    BodiesDep,
    IngestionDep,
    ModelDep,
    RetrainerDep,
    SettingsDep,
    StoppingDep,
    StoreDep,
)
from shoe_classifier.api.form import Form
from shoe_classifier.api.middleware import WAITED
from shoe_classifier.api.multipart import invalid_value, private_folder, read_form
from shoe_classifier.api.openapi import (
    KEEPING,
    READING,
    STORED,
    UPLOADING,
    WRITING,
    error_responses,
    retrain_inputs,
    text_response,
)
from shoe_classifier.api.pagination import Before, Limit, link_next_page
from shoe_classifier.api.schemas.retrain import JobBody
from shoe_classifier.ml.live_model import LiveModelHolder
from shoe_classifier.services.ingestion import IngestionService
from shoe_classifier.services.retraining import Retrainer
from shoe_classifier.storage.protocols import Store
from shoe_classifier.types import RetrainJob, RetrainMode

router = APIRouter(prefix="/retrain", tags=["teach"])

_POLL_SECONDS = 0.2  # of a job that runs in this process
_POLL_ELSEWHERE_SECONDS = 1.0  # of one that runs elsewhere: each look is a query
_KEEP_ALIVE_SECONDS = 2  # a page that watches cannot handle input until the next bytes arrive


class RetrainOptions(BaseModel):
    """How to retrain; in the form, or in the query."""

    mode: RetrainMode = Field("auto", description="quick: only the head. full: upper layers, too. auto: by the data.")
    max_seconds: int | None = Field(None, ge=1, le=86_400, description="Longest training time.")
    force: bool = Field(False, description="Publish even a model that is worse.")
    without: list[str] = Field(
        [], description="Labels whose new pictures go on waiting; several in the query, one in the form."
    )


async def _options_after_upload(
    request: Request,
    settings: SettingsDep,
    bodies: BodiesDep,
    model: ModelDep,
    store: StoreDep,
    ingestion: IngestionDep,
    retrainer: RetrainerDep,
) -> RetrainOptions:
    """Read the options, and ingest the ZIP if there is one. Raises `RetrainRunning` before the body is read."""
    retrainer.check_idle()
    if not request.headers.get("content-type") or request.headers.get("content-length") == "0":
        return _options(request.query_params, {})
    async with (
        private_folder(settings.temp_uploads_dir) as folder,
        read_form(request, settings.max_zip_bytes, bodies, folder) as form,
    ):
        options = _options(request.query_params, form.fields)
        if form.files and (form.files[0].path or form.files[0].data or form.files[0].name):
            await anyio.to_thread.run_sync(_ingest, ingestion, store, model, form, folder)
    return options


@router.post(
    "",
    summary="Learn from what was uploaded",
    status_code=202,
    response_model=JobBody,
    responses={
        200: {"model": JobBody, "description": "The finished job, with `wait`."},
        **error_responses(
            *WRITING,
            *UPLOADING,
            errors.RetrainRunning,
            errors.NoNewData,
            errors.NotOffered,
            errors.InvalidZip,
            errors.InvalidLabel,
            errors.NothingAccepted,
            errors.NotReady,
            *STORED,
            *KEEPING,
        ),
    },
    openapi_extra=retrain_inputs(RetrainOptions),
    dependencies=[MayWrite],
)
async def start_retrain(
    request: Request,
    response: Response,
    options: Annotated[RetrainOptions, Depends(_options_after_upload)],
    retrainer: RetrainerDep,
    wait: Annotated[bool, Query(description="Answer only when the job has ended, with 200.")] = False,
) -> RetrainJob:
    job = await anyio.to_thread.run_sync(
        retrainer.start, options.mode, options.max_seconds, options.force, options.without
    )
    if wait:
        started = time.perf_counter()  # a thread that waits must not hold up the end of the service
        job = await anyio.to_thread.run_sync(retrainer.wait, job.job_id, abandon_on_cancel=True)
        request.scope[WAITED] = time.perf_counter() - started
        response.status_code = 200
    return job


@router.get(
    "",
    summary="Retrain jobs, newest first",
    response_model=list[JobBody],
    responses=error_responses(*READING, errors.InvalidRequest, *STORED),
    dependencies=[MayRead],
)
def list_retrain_jobs(
    response: Response, retrainer: RetrainerDep, limit: Limit = 50, before: Before = None
) -> list[RetrainJob]:
    rows = retrainer.jobs(limit, before)
    link_next_page(response, "/retrain", limit, [row.job_id for row in rows])
    return rows


@router.get(
    "/{job_id}",
    summary="One job",
    response_model=JobBody,
    responses=error_responses(*READING, errors.NotFound, *STORED),
    dependencies=[MayRead],
)
def get_retrain_job(job_id: str, retrainer: RetrainerDep) -> RetrainJob:
    return retrainer.job(job_id)


@router.get(
    "/{job_id}/events",
    summary="The progress of a job, as server-sent events",
    response_class=StreamingResponse,
    responses={
        **text_response(
            "`progress` events whose data is the job as JSON, and `end` as the last one.", "text/event-stream"
        ),
        **error_responses(*READING, errors.NotFound, *STORED),
    },
    dependencies=[MayRead],
)
async def stream_retrain_events(job_id: str, retrainer: RetrainerDep, stopping: StoppingDep) -> StreamingResponse:
    job = await anyio.to_thread.run_sync(retrainer.job, job_id)
    return StreamingResponse(
        _events(job, retrainer, stopping), media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
    )


@router.delete(
    "/{job_id}",
    summary="Cancel a job",
    status_code=202,
    response_model=JobBody,
    responses=error_responses(*WRITING, errors.NotFound, errors.NotCancellable, *STORED),
    dependencies=[MayWrite],
)
def cancel_retrain(job_id: str, retrainer: RetrainerDep) -> RetrainJob:
    return retrainer.cancel(job_id)


def _options(query: QueryParams, fields: dict[str, str]) -> RetrainOptions:
    values: dict[str, Any] = {name: value for name, value in {**query, **fields}.items() if value != ""}
    if "without" in values:
        values["without"] = [fields["without"]] if "without" in fields else query.getlist("without")
    try:
        return RetrainOptions.model_validate(values)
    except ValidationError as error:
        raise invalid_value(error, "the options") from None


def _ingest(ingestion: IngestionService, store: Store, model: LiveModelHolder, form: Form, folder: Path) -> None:
    """A ZIP without new pictures is no reason to refuse when others wait to be learned."""
    file = form.file("file", "zip_file")
    try:
        ingestion.ingest(file.on_disk(folder), file.name, None, folder, model.labels)
    except errors.NothingAccepted:
        if not store.count_unprocessed():
            raise


async def _events(job: RetrainJob, retrainer: Retrainer, stopping: threading.Event) -> AsyncIterator[bytes]:
    """An event whenever the job changed, and a comment in long pauses, so that proxies keep the connection open."""
    last, silent = b"", 0.0
    while not stopping.is_set():
        present = JobBody(**asdict(job)).model_dump_json().encode()
        if present != last:
            name = b"end" if job.finished else b"progress"
            yield b"event: " + name + b"\ndata: " + present + b"\n\n"
            last, silent = present, 0.0
        if job.finished:
            return
        pause = _POLL_SECONDS if retrainer.running else _POLL_ELSEWHERE_SECONDS
        await asyncio.sleep(pause)
        silent += pause
        if silent > _KEEP_ALIVE_SECONDS:
            yield b": still running\n\n"
            silent = 0.0
        job = await anyio.to_thread.run_sync(_latest, job, retrainer)


def _latest(job: RetrainJob, retrainer: Retrainer) -> RetrainJob:
    """The job as it is now, or as it was while the store does not answer."""
    try:
        return retrainer.job(job.job_id)
    except errors.StoreUnavailable:
        return job
