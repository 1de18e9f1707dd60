"""`shoe-classifier scale …`: work on more pictures than one service should take, on this machine or a Ray cluster."""

from typing import Annotated, Any

import typer

from shoe_classifier.terminal import console, or_exit, progress_bar, read_settings

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


@scale.callback()
def _scale() -> None:
    """Without it, typer would take the only command for the group itself."""


@scale.command()
def predict(
    source: Source,
    out: Annotated[str, typer.Argument(help="Folder, or s3://bucket/folder, for Parquet files.")],
    actors: Actors = None,
    address: Address = None,
) -> None:
    """Classify all pictures of SOURCE with the live model, into OUT. Run it again to go on after an interruption."""
    from shoe_classifier.scale.bulk import predictions_of
    from shoe_classifier.scale.job import Request

    _run(Request("predict", predictions_of, source, out, actors, address))


def _run(request: Any) -> None:
    """Do a job with a progress bar, and say how it ended."""
    from shoe_classifier.scale.job import run

    settings = read_settings()
    with progress_bar() as bar:
        shown = bar.add_task("Listing the pictures", total=None)

        def show(progress: Any) -> None:
            total, done = progress.job.pictures, progress.done
            text = f"{done:,} of {total:,} pictures, {progress.per_second:,.0f} a second"
            bar.update(shown, total=total, completed=done, description=text)

        end = or_exit(run, request, settings, show)
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
