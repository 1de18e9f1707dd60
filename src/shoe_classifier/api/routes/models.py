"""`/models`: versions, their files and metrics, and switching between them."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse

from shoe_classifier import errors
from shoe_classifier.api.auth import MayRead, MayWrite
from shoe_classifier.api.dependencies import ModelExportDep, RegistryDep, RetrainerDep, ShadowDep, StoreDep
from shoe_classifier.api.openapi import KEEPING, READING, STORED, WRITING, error_responses, file_response
from shoe_classifier.api.schemas.models import ActivationBody, ModelBody, OneModelBody, ParityBody, ShadowBody
from shoe_classifier.ml.exports.formats import FORMATS, ExportFormat
from shoe_classifier.ml.plots import draw_report
from shoe_classifier.types import ModelVersion

router = APIRouter(prefix="/models", tags=["models"])


@router.get(
    "",
    summary="All versions, newest first",
    response_model=list[ModelBody],
    responses=error_responses(*READING, *STORED),
    dependencies=[MayRead],
)
def list_models(store: StoreDep) -> list[ModelVersion]:
    return store.versions()


@router.get(
    "/{version}",
    summary="One version, with its metrics, and how many training pictures it has not learned",
    response_model=OneModelBody,
    responses=error_responses(*READING, errors.NotFound, *STORED),
    dependencies=[MayRead],
)
def get_model(version: str, registry: RegistryDep, store: StoreDep, shadow: ShadowDep) -> dict[str, Any]:
    row = registry.known(version)
    return {**asdict(row), "waiting": store.count_unlearned(version), "shadow": shadow.state(version)}


@router.get(
    "/{version}/report.png",
    summary="Confusion matrix and metrics of each label, as a picture",
    response_class=Response,
    responses={
        **file_response("The metrics as a picture.", "image/png"),
        **error_responses(*READING, errors.NotFound, errors.NotOffered, *STORED),
    },
    dependencies=[MayRead],
)
def get_model_report(version: str, registry: RegistryDep) -> Response:
    row = registry.known(version)
    if not row.metrics:
        raise errors.NotOffered(
            f"Expected a version that was measured; {version!r} is a plain Keras model, which was not."
        )
    return Response(draw_report(f"Version {version}", row.metrics), media_type="image/png")


@router.post(
    "/{version}/activate",
    summary="Make another version live, also a rejected one",
    response_model=ActivationBody,
    responses=error_responses(
        *WRITING,
        errors.NotFound,
        errors.RetrainRunning,
        errors.Superseded,
        errors.NotOffered,
        errors.InvalidModel,
        errors.NotReady,
        *STORED,
        *KEEPING,
    ),
    dependencies=[MayWrite],
)
def activate_model(version: str, retrainer: RetrainerDep, store: StoreDep) -> dict[str, Any]:
    row = retrainer.activate(version)
    waiting = store.count_unprocessed()
    message = f"Of the training pictures, {waiting:,} are not in this version; they wait for the next retrain."
    return {**asdict(row), "waiting": waiting, "message": message if waiting else "All training pictures are in it."}


@router.post(
    "/{version}/shadow",
    summary="Let another version answer live pictures silently",
    response_model=ShadowBody,
    responses=error_responses(
        *WRITING,
        errors.InvalidRequest,
        errors.NotFound,
        errors.NotOffered,
        errors.InvalidModel,
        errors.NotReady,
        *STORED,
    ),
    dependencies=[MayWrite],
)
def start_shadow(
    version: str,
    shadow: ShadowDep,
    predictions: Annotated[int, Query(ge=1, le=100_000, description="How many pictures it answers.")] = 200,
) -> dict[str, Any]:
    return shadow.start(version, predictions)


@router.delete(
    "/{version}/shadow",
    summary="End that, and forget what it has found",
    status_code=204,
    responses=error_responses(*WRITING, errors.NotFound),
    dependencies=[MayWrite],
)
def end_shadow(version: str, shadow: ShadowDep) -> Response:
    shadow.end(version)
    return Response(status_code=204)


@router.get(
    "/{version}/file",
    summary="Download the model file",
    response_class=FileResponse,
    responses={
        **file_response("The model file.", "application/x-hdf5"),
        **error_responses(*READING, errors.NotFound, errors.InvalidRequest, errors.NotReady, *STORED),
    },
    dependencies=[MayRead],
)
def download_model(
    version: str, registry: RegistryDep, format: Annotated[Literal["h5"], Query(description="File format.")] = "h5"
) -> FileResponse:
    path = registry.file_of(version)
    return FileResponse(path, media_type="application/x-hdf5", filename=f"shoe_classifier-{version}.{format}")


@router.get(
    "/{version}/export",
    summary="The model for use elsewhere, with preprocessing, calibration and `unknown` inside",
    response_model=ParityBody,
    responses={
        **file_response(
            "A LiteRT or ONNX model, or a page that works offline; or the parity report.",
            "application/octet-stream",
            "text/html",
        ),
        **error_responses(
            *READING,
            errors.InvalidRequest,
            errors.NotFound,
            errors.NotOffered,
            errors.ExportDiffers,
            errors.ExportFailed,
            errors.InvalidModel,
            errors.ExportUnavailable,
            errors.Overloaded,
            errors.NotReady,
            *STORED,
            *KEEPING,
        ),
    },
    dependencies=[MayRead],
)
def export_model(
    version: str,
    export: ModelExportDep,
    format: Annotated[
        ExportFormat, Query(description="The first time, it takes up to a minute to measure it.")
    ] = "tflite",
    report: Annotated[bool, Query(description="Only how its answers differ from the service's, as JSON.")] = False,
) -> Any:
    if report:
        return export.report(version, format)
    info = FORMATS[format]
    name = f"shoe_classifier-{version}.{info.extension}"
    return FileResponse(export.export(version, format), media_type=info.media_type, filename=name)
