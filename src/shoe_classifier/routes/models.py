"""`/models`: versions, and the way back."""

from typing import Annotated, Literal

import anyio.to_thread
from fastapi import APIRouter, Query
from fastapi.responses import FileResponse

from shoe_classifier.dependencies import MayWrite, Services
from shoe_classifier.errors import NotFound
from shoe_classifier.openapi import errors
from shoe_classifier.schemas import ModelBody
from shoe_classifier.store.base import ModelVersion

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", summary="All versions, newest first", response_model=list[ModelBody])
async def versions(service: Services) -> list[ModelVersion]:
    return await anyio.to_thread.run_sync(service.store.versions)


@router.get("/{version}", summary="One version, with its metrics", response_model=ModelBody, responses=errors(404))
async def version(version: str, service: Services) -> ModelVersion:
    row = await anyio.to_thread.run_sync(service.store.version, version)
    if row is None:
        raise NotFound(f"Expected the name of a version, as GET /models lists them; received {version[:80]!r}.")
    return row


@router.post(
    "/{version}/activate",
    summary="Go back, or forward, to a version",
    response_model=ModelBody,
    responses=errors(401, 403, 404, 409, 422),
    dependencies=[MayWrite],
)
async def activate(version: str, service: Services) -> ModelVersion:
    service.retrainer.check_idle()  # it would otherwise be judged against a model that is not live any more
    return await anyio.to_thread.run_sync(service.publisher.activate, version)


@router.get("/{version}/file", summary="Download the model", response_class=FileResponse, responses=errors(404, 422))
async def file(
    version: str, service: Services, format: Annotated[Literal["h5"], Query(description="File format.")] = "h5"
) -> FileResponse:
    path = await anyio.to_thread.run_sync(service.publisher.file_of, version)
    return FileResponse(path, media_type="application/x-hdf5", filename=f"shoe_classifier-{version}.{format}")
