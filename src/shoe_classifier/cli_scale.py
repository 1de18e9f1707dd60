"""`shoe-classifier scale …`: work on more pictures than one service should take, on this machine or a Ray cluster."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from shoe_classifier.errors import AppError, ConfigurationError
from shoe_classifier.terminal import console, or_exit, progress_bar, read_settings, show_on

scale = typer.Typer(no_args_is_help=True, help="Many pictures at once, on this machine or a Ray cluster.")

Source = Annotated[
    str,
    typer.Argument(
        help="A folder, a ZIP, a .parquet or .csv file with a column `path`, s3://bucket/folder, or `stored`: the "
        "pictures that the service keeps."
    ),
]
Actors = Annotated[int | None, typer.Option(min=1, help="Processes; otherwise one for each processor.")]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to use, host:port or auto. Otherwise RAY_ADDRESS, for 20,000 pictures or more."),
]


@scale.command()
def predict(
    source: Source,
    out: Annotated[str, typer.Argument(help="Folder, or s3://bucket/folder, for Parquet files.")],
    actors: Actors = None,
    address: Address = None,
) -> None:
    """Classify all pictures of SOURCE with the live model, into OUT. Run it again to go on after an interruption."""
    from shoe_classifier.scale.bulk import predictions_of
    from shoe_classifier.scale.job import Request, run

    _run(Request("predict", predictions_of, source, out, actors, address), run)


@scale.command()
def features(
    source: Source,
    out: Annotated[str, typer.Argument(help="Folder, or s3://bucket/folder, of features; it may hold others.")],
    actors: Actors = None,
    address: Address = None,
) -> None:
    """Compute what the live model sees in all pictures of SOURCE, each once, to teach from. OUT keeps it."""
    from shoe_classifier.scale.features import collect, features_of
    from shoe_classifier.scale.job import Request

    _run(Request("features", features_of, source, out, actors, address), collect)


@scale.command()
def teach(
    features: Annotated[str, typer.Argument(help="What `scale features` wrote, of labelled pictures.")],
    out: Annotated[Path, typer.Option(help="Where the new model file is written.")] = Path("models/taught.h5"),
    most: Annotated[
        int, typer.Option(min=2, help="Pictures to learn from, at most; these take 5 GB of memory.")
    ] = 200_000,
    force: Annotated[bool, typer.Option(help="Write even a model that is worse.")] = False,
) -> None:
    """Fit the live model's head to many pictures, by their features, and write the result unless it is worse."""
    from shoe_classifier.scale.teaching import teach as fit

    with progress_bar() as bar:
        show = show_on(bar, bar.add_task("Reading the features", total=1.0))
        taught = or_exit(fit, features, out, read_settings(), show, most=most, force=force)
    metrics = taught.evidence.metrics
    console().print(
        f"Learned {taught.pictures:,} of {taught.of:,} pictures: accuracy {metrics['accuracy']:.4f} on "
        f"{metrics['samples']:,} held-out ones.",
        markup=False,
        soft_wrap=True,
    )
    if taught.reasons:
        console().print(f"It is worse: {'; '.join(taught.reasons)}.", markup=False, soft_wrap=True)
    if taught.reasons and not force:
        raise typer.Exit(1)
    console().print(f"Version {taught.version} is in {out}.", markup=False, soft_wrap=True)


@scale.command()
def retrain(
    workers: Annotated[int | None, typer.Option(min=1, help="How many; RETRAIN_WORKERS.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster, host:port or auto; RAY_ADDRESS.")] = None,
    force: Annotated[bool, typer.Option(help="Publish even a model that is worse.")] = False,
) -> None:
    """Retrain the network on a cluster with all pictures that wait, and publish it to the service of the settings."""
    from shoe_classifier.scale.retrain import retrain as run

    given = {"retrain_in": "ray", "retrain_workers": workers, "ray_address": address}
    settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    with progress_bar() as bar:
        shown = bar.add_task("Starting", total=1.0)
        job = or_exit(
            run, settings, force, lambda job: bar.update(shown, description=job.message, completed=job.progress)
        )
    console().print(f"{job.state}: {job.message}", markup=False, soft_wrap=True)
    if job.state != "published":
        raise typer.Exit(1)


def _run(request: Any, work: Any) -> None:
    """Do a job with a progress bar, and say how it ended, or what there is of it."""
    settings = read_settings()
    begun = False
    try:
        with progress_bar() as bar:
            task = bar.add_task("Listing the pictures", total=None)

            def show(progress: Any) -> None:
                nonlocal begun
                begun = True
                total, done = progress.job.pictures, progress.done
                text = f"{done:,} of {total:,} pictures, {progress.per_second:,.0f} a second"
                bar.update(task, total=total, completed=done, description=text)

            end = work(request, settings, show)
    except (AppError, ConfigurationError, KeyboardInterrupt) as error:
        reason = "Interrupted." if isinstance(error, KeyboardInterrupt) else str(error)
        sys.exit(f"{reason} What is done stays in {request.out}; the same command does the rest." if begun else reason)
    _say(end, request.out)


def _say(end: Any, out: str) -> None:
    lines = [f"{end.job.pictures:,} pictures of {end.job.source} are in {out}, by version {end.job.model_version}."]
    if end.earlier:
        lines.append(f"{end.earlier:,} of them were there already.")
    if end.done > end.earlier:
        lines.append(f"{end.done - end.earlier:,} were done now, {end.per_second:,.0f} a second, by {end.where}.")
    if end.failed:
        lines.append(f"{end.failed:,} of these have no result; the column `error` says why.")
    console().print(" ".join(lines), markup=False, soft_wrap=True)
