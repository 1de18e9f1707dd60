"""`/models`: versions, and the way back."""

from typing import Annotated, Literal

import anyio.to_thread
from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse

from shoe_classifier.api.dependencies import MayWrite, Services
from shoe_classifier.api.openapi import errors
from shoe_classifier.api.schemas import ModelBody
from shoe_classifier.errors import NotOffered
from shoe_classifier.ml.plots import draw_report
from shoe_classifier.types import ModelVersion

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", summary="All versions, newest first", response_model=list[ModelBody])
async def versions(service: Services) -> list[ModelVersion]:
    return await anyio.to_thread.run_sync(service.store.versions)


@router.get("/{version}", summary="One version, with its metrics", response_model=ModelBody, responses=errors(404))
async def version(version: str, service: Services) -> ModelVersion:
    return await anyio.to_thread.run_sync(service.model_registry.known, version)


@router.get(
    "/{version}/report.png",
    summary="Confusion matrix and per-class bars",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "The metrics as a picture."}, **errors(404, 409)},
)
async def report(version: str, service: Services) -> Response:
    row = await anyio.to_thread.run_sync(service.model_registry.known, version)
    if not row.metrics:
        raise NotOffered(f"Expected a version that was measured; {version!r} is a plain Keras model, which was not.")
    png = await anyio.to_thread.run_sync(draw_report, f"Version {version}", row.metrics)
    return Response(png, media_type="image/png")


@router.post(
    "/{version}/activate",
    summary="Go back, or forward, to a version",
    response_model=ModelBody,
    responses=errors(401, 403, 404, 409, 422),
    dependencies=[MayWrite],
)
async def activate(version: str, service: Services) -> ModelVersion:
    return await anyio.to_thread.run_sync(service.retrainer.activate, version)


@router.get("/{version}/file", summary="Download the model", response_class=FileResponse, responses=errors(404, 422))
async def file(
    version: str, service: Services, format: Annotated[Literal["h5"], Query(description="File format.")] = "h5"
) -> FileResponse:
    path = await anyio.to_thread.run_sync(service.model_registry.file_of, version)
    return FileResponse(path, media_type="application/x-hdf5", filename=f"shoe_classifier-{version}.{format}")
