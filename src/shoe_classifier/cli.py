"""`python -m shoe_classifier …`: the service and its parts from a terminal."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from shoe_classifier.cli_scale import scale
from shoe_classifier.cli_service import import_pictures, retrain
from shoe_classifier.errors import AppError, ConfigurationError
from shoe_classifier.ml.dataset import IMAGE_SIZE
from shoe_classifier.ml.exports.formats import ExportFormat
from shoe_classifier.settings import Settings
from shoe_classifier.terminal import console, or_exit, print_metrics, progress_bar, read_settings, show_on

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

PRETRAINED = Path("models/pretrained.h5")
supabase = typer.Typer(no_args_is_help=True, help="About the Supabase project of the settings.")
app.add_typer(supabase, name="supabase")
benchmark = typer.Typer(no_args_is_help=True, help="How good the live model is at what it is made for.")
app.add_typer(benchmark, name="benchmark")
app.add_typer(scale, name="scale")

Data = Annotated[Path, typer.Argument(help="A folder, or a ZIP, of labelled folders.", exists=True)]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on; HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; PORT.")] = None,
) -> None:
    """Start the web service."""
    from shoe_classifier.api.server import serve as run
    from shoe_classifier.main import create_app

    given = {"host": host, "port": port}
    run(read_settings(**{name: value for name, value in given.items() if value is not None}), create_app)


@app.command()
def predict(
    paths: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them.", exists=True)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one picture a line.")] = False,
) -> None:
    """Classify pictures with the live model: label, confidence, decision and file, a line each."""
    files = list(_pictures(paths))
    if not files:
        sys.exit(f"Expected pictures; found none in {', '.join(map(str, paths))}.")
    live_model, failed = _live_model(read_settings()), False
    for file in files:
        try:
            prediction = live_model.predict(file.read_bytes(), file.name)
        except AppError as error:
            failed = True
            print(_refused_as_json(file, error) if as_json else f"-  -  refused  {file}: {error.detail}")
        else:
            print(_as_json(file, prediction) if as_json else _as_line(file, prediction))
    if failed:
        raise typer.Exit(1)


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Where the model file is written.")] = Path("models/trained.h5"),
    photos: Annotated[list[Path] | None, typer.Option(help="Photos with the same labels, as users take them.")] = None,
    backgrounds: Annotated[list[Path] | None, typer.Option(help="Folders of pictures with none of the labels.")] = None,
    exclude: Annotated[list[Path] | None, typer.Option(help="Pictures that must not be trained on.")] = None,
    size: Annotated[int, typer.Option(min=32, help="Edge of the network's pictures, in pixels.")] = IMAGE_SIZE,
    epochs: Annotated[int, typer.Option(min=0, help="0: fit only the head, on the network of --start.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Batches in an epoch.")] = 100,
    frozen: Annotated[int, typer.Option(min=0, help="Lowest blocks that keep their weights, of 16.")] = 11,
    start: Annotated[
        Path | None,
        typer.Option(help="Model file whose network is trained further; models/pretrained.h5.", exists=True),
    ] = None,
    checkpoints: Annotated[Path | None, typer.Option(help="Folder from which an interrupted run resumes.")] = None,
) -> None:
    """Train a model from pictures. Give --backgrounds when DATA shows objects on white: they are pasted onto them."""
    from shoe_classifier.services.offline_training import OfflineTraining, train_from_folders

    plan = OfflineTraining(
        data,
        out,
        photos=photos or [],
        backgrounds=backgrounds or [],
        exclude=exclude or [],
        image_size=size,
        epochs=epochs,
        steps=steps,
        frozen=frozen,
        start=start or (PRETRAINED if PRETRAINED.exists() else None),
        checkpoints=checkpoints,
    )
    with progress_bar() as progress:
        task = progress.add_task("Reading pictures", total=1.0)
        bundle = or_exit(train_from_folders, plan, show_on(progress, task))
    print_metrics(bundle.metrics, f"Version {bundle.version} in {out}, on held-out pictures")


@app.command()
def evaluate(
    data: Data,
    out: Annotated[Path | None, typer.Option(help="Folder for report.png and mistakes.png.")] = None,
) -> None:
    """Measure the live model on labelled pictures."""
    from shoe_classifier.services.factories import open_model
    from shoe_classifier.services.offline_training import evaluate_folder

    model = or_exit(open_model, read_settings())
    with progress_bar() as progress:
        task = progress.add_task("Classifying pictures", total=None)
        metrics = or_exit(evaluate_folder, model, data, show_on(progress, task), out)
    print_metrics(metrics, f"{data}")
    console().print("Decisions: " + ", ".join(f"{name} {share:.1%}" for name, share in metrics["decisions"].items()))
    for mistake in metrics["mistakes"]:
        console().print(
            f"{mistake['picture']}: is {mistake['label']}, predicted {mistake['predicted_class']} "
            f"({mistake['confidence']:.2f})",
            markup=False,
        )


@app.command()
def export(
    version: Annotated[str, typer.Argument(help="A version, as GET /models lists them.")],
    kind: Annotated[
        ExportFormat, typer.Option("--format", help="For LiteRT, for ONNX Runtime, or a page for browsers.")
    ] = "tflite",
    out: Annotated[
        Path | None, typer.Option(help="Where it is written; shoe_classifier-VERSION in this folder.")
    ] = None,
) -> None:
    """Write a version as one file for use elsewhere, and measure whether it answers as the service does."""
    from shoe_classifier.ml.exports.formats import FORMATS
    from shoe_classifier.ml.live_model import LiveModelHolder
    from shoe_classifier.services.factories import open_registry, open_store
    from shoe_classifier.services.model_export import ModelExport
    from shoe_classifier.storage.model_files import ModelFiles

    settings = read_settings()
    store, holder = open_store(settings), LiveModelHolder(settings.max_image_pixels)
    try:
        registry = open_registry(settings, store, ModelFiles(settings.live_model), holder)
        or_exit(registry.restore)
        exports = ModelExport(settings, store, registry)
        file, report = or_exit(exports.export, version, kind), or_exit(exports.report, version, kind)
    finally:
        store.close()
    out = out or Path(f"shoe_classifier-{version}.{FORMATS[kind].extension}")
    shutil.copyfile(file, out)
    print(f"{out}, {out.stat().st_size:,} bytes. {_parity(report)}")


app.command()(retrain)
app.command("import")(import_pictures)


@app.command(hidden=True)
def openapi() -> None:
    """Print the OpenAPI document."""
    from shoe_classifier.main import create_app

    with tempfile.TemporaryDirectory() as folder:  # building the app opens a store
        service = create_app(Settings(_env_file=None, dataset_dir=Path(folder)))  # type: ignore[call-arg]
        print(json.dumps(service.openapi(), indent=2, ensure_ascii=False))
        service.state.service.features.close()
        service.state.service.store.close()
        service.state.service.shadow.stop()


@benchmark.callback()
def _benchmark() -> None:
    """Without it, typer would take the only command for the group itself."""


@benchmark.command()
def few_shot(
    train: Data,
    test: Data,
    shots: Annotated[str, typer.Option(help="Pictures of each label to teach, several numbers.")] = "1,2,5,10",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one result a line.")] = False,
) -> None:
    """Teach a copy of the live model the first pictures of each label in TRAIN, and measure it on TEST.

    Beside it stands a linear probe of the untuned network, models/pretrained.h5, if that is there.
    """
    from shoe_classifier.services.factories import live_model_file
    from shoe_classifier.services.few_shot import measure_few_shot

    if not all(number.isdecimal() and int(number) for number in shots.split(",")):
        sys.exit(f"Expected whole numbers from 1, as in --shots 1,2,5,10; received {shots!r}.")
    numbers = [int(number) for number in shots.split(",")]
    pretrained = PRETRAINED if PRETRAINED.exists() else None
    with progress_bar(disable=as_json) as progress:
        show = show_on(progress, progress.add_task("Reading pictures", total=1.0))
        results = or_exit(measure_few_shot, live_model_file(read_settings()), train, test, numbers, show, pretrained)
    for result in results:
        print(json.dumps(vars(result)) if as_json else result)


@supabase.command("check")
def check_project() -> None:
    """Check line by line whether the project of SUPABASE_URL and SUPABASE_KEY is set up right; exit status 1 if not."""
    settings = read_settings()
    if settings.supabase_url is None or settings.supabase_key is None:
        sys.exit("Expected SUPABASE_URL and SUPABASE_KEY in the environment or in .env; received none.")
    from shoe_classifier.storage.supabase.client import SupabaseClient
    from shoe_classifier.storage.supabase.setup_check import check_setup

    try:
        project = SupabaseClient(
            settings.supabase_url, settings.supabase_key.get_secret_value(), settings.supabase_timeout_seconds
        )
    except ConfigurationError as error:
        sys.exit(str(error))
    lines = or_exit(check_setup, project, settings.supabase_bucket)
    project.close()
    for right, text in lines:
        print(f"{'ok   ' if right else 'WRONG'}  {text}")
    if not all(right for right, _ in lines):
        raise typer.Exit(1)


def _pictures(paths: list[Path]) -> Iterator[Path]:
    """The files as they were given, and the pictures in folders, at any depth, sorted by name."""
    from shoe_classifier.ml.preprocessing import PICTURE_NAMES

    for path in paths:
        if path.is_dir():
            yield from (file for file in sorted(path.rglob("*")) if file.suffix.lower() in PICTURE_NAMES)
        else:
            yield path


def _as_line(file: Path, prediction: Any) -> str:
    """The file comes last: it may be of any length, and is not to be cut."""
    return f"{prediction.predicted_class:12}  {prediction.confidence:.3f}  {prediction.decision:9}  {file}"


def _as_json(file: Path, prediction: Any) -> str:
    names = ("predicted_class", "confidence", "decision", "probabilities", "model_version")
    return json.dumps({"picture": str(file), **{name: getattr(prediction, name) for name in names}})


def _refused_as_json(file: Path, error: AppError) -> str:
    return json.dumps({"picture": str(file), "error": {"detail": error.detail, "code": error.code}})


def _live_model(settings: Settings) -> Any:
    from shoe_classifier.ml.live_model import LiveModelHolder
    from shoe_classifier.services.factories import open_model

    live_model = LiveModelHolder(settings.max_image_pixels)
    live_model.swap(or_exit(open_model, settings))
    return live_model


def _parity(report: dict[str, Any]) -> str:
    return (
        f"{report['runtime']} names the same label for all of {report['stored'] + report['drawn']:,} pictures, and "
        f"decides differently about {report['decision_changes']}. A probability differs by at most "
        f"{report['largest_difference']:.1e}. It takes {report['export_ms']:.1f} ms for a picture, the service "
        f"{report['service_ms']:.1f} ms."
    )
