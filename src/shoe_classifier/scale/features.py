"""Features and latents of many pictures, each computed once for a backbone, to teach from.

A folder of features grows by passes. A pass first hashes all pictures of a source. Then it looks at those that no
earlier pass has looked at with the same backbone: each once, however often it occurs.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from shoe_classifier.errors import InvalidImage
from shoe_classifier.ml import bundle as bundles
from shoe_classifier.ml.dataset import held_out
from shoe_classifier.ml.replay_buffer import ReplayBufferBuilder, keys_of
from shoe_classifier.ml.thumbnails import thumbnails_of
from shoe_classifier.scale.job import Progress, Request, Show, require_parquet, run
from shoe_classifier.scale.manifest import STORED, Entry, whole_name
from shoe_classifier.scale.output import Output, open_output
from shoe_classifier.scale.worker import Eye, Fetched, reason_of
from shoe_classifier.services.factories import live_model_file
from shoe_classifier.settings import Settings
from shoe_classifier.storage.feature_cache import FeatureCache
from shoe_classifier.types import NONE_OF_THESE, PictureFeatures

_STEP = "pass-{:04d}"
_COLUMNS = ("path", "label", "sha256", "backbone", "features", "thumbnail", "latent", "error")


def collect(request: Request, settings: Settings, show: Show) -> Progress:
    """Add the features of a source to a folder of them. Raises as `job.run` does.

    Args:
        request: `out` is the folder; `task` and `look` do not matter.
        show: is told how far each of the two steps is.
    """
    require_parquet()
    folder = open_output(request.out)
    this = _pass_for(folder, request.source)
    hashes, features = this.below("hashes"), this.below("features")
    end = run(replace(request, task="hashes", look=hashes_of, out=hashes.address), settings, show)
    if features.job() is None:
        backbone = bundles.read(live_model_file(settings)).backbone_sha256
        fresh = _fresh(hashes, known_hashes(folder, backbone))
        first = next(fresh, None)
        if first is None:
            return replace(end, earlier=end.done)
        request = replace(request, entries=chain([first], fresh))
    end = run(replace(request, task="features", look=features_of, out=features.address), settings, show)
    if request.source == STORED:
        _hand_over(features, settings)
    return end


def _pass_for(folder: Output, source: str) -> Output:
    """The pass over a source that was interrupted, or a new one."""
    passes = sorted(name for name in folder.names() if name.startswith(_STEP.partition("{")[0]))
    if passes:
        last = folder.below(passes[-1])
        hashes, features = last.below("hashes"), last.below("features")
        began, goes_on = hashes.job(), features.job()
        unfinished = (began and hashes.missing(began)) or (goes_on and features.missing(goes_on))
        if unfinished and began and began.source == whole_name(source):
            return last
    return folder.below(_STEP.format(len(passes)))


def known_hashes(folder: Output, backbone: str) -> set[bytes]:
    """The SHA-256 of all pictures whose features a folder has of a backbone, `backbone` being its own SHA-256."""
    known: set[bytes] = set()
    for table in feature_parts(folder, backbone, ["sha256"]):
        known.update(map(bytes.fromhex, table["sha256"].to_pylist()))
    return known


def feature_parts(folder: Output, backbone: str, columns: list[str]) -> Iterator[Any]:
    """Yield tables of features of a backbone, without pictures that have none."""
    import pyarrow.compute as pc

    for name in sorted(folder.names()):
        features = folder.below(name).below("features")
        for table in features.parts([*columns, "backbone", "error"]):
            usable = pc.and_(pc.equal(table["backbone"], backbone), pc.is_null(table["error"]))
            yield table.filter(usable).select(columns)


def _fresh(hashes: Output, known: set[bytes]) -> Iterator[Entry]:
    """Each picture that is not known, once; adds it to `known`."""
    for table in hashes.parts(["path", "label", "sha256"]):
        for row in table.to_pylist():
            if row["sha256"] is not None and (digest := bytes.fromhex(row["sha256"])) not in known:
                known.add(digest)
                yield Entry(**row)


def hashes_of(eye: Eye, pictures: Iterator[Fetched]) -> Any:
    """The SHA-256 of pictures, as an Arrow table: `path`, `label`, `sha256` and `error`."""
    import pyarrow as pa

    schema = pa.schema([(name, pa.string()) for name in ("path", "label", "sha256", "error")])
    rows = [
        {
            "path": picture.entry.path,
            "label": picture.entry.label,
            "sha256": None if picture.error else hashlib.sha256(picture.data).hexdigest(),
            "error": picture.error,
        }
        for picture in pictures
    ]
    return pa.Table.from_pylist(rows, schema)


def features_of(eye: Eye, pictures: Iterator[Fetched]) -> Any:
    """What the backbone sees in pictures, as an Arrow table.

    Its columns are `path`, `label`, `sha256`, `backbone` (SHA-256), `features` (`float16 (d,)`), `thumbnail` and
    `latent` (bytes of `uint8` and `int8` arrays), and `error`. Only pictures that a replay buffer of these alone would
    keep with their latents have one: that of all pictures needs no others.
    """
    import pyarrow as pa

    width = eye.live.backbone.feature_count
    types = {"features": pa.list_(pa.float16(), width), "thumbnail": pa.binary(), "latent": pa.binary()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in _COLUMNS])
    rows, latents = [], []
    for picture in pictures:
        row, latent = _look(eye, picture)
        rows.append(row)
        latents.append(latent)
    _keep_latents(rows, latents, eye.latent_scale)
    return pa.Table.from_pylist(rows, schema)


def _look(eye: Eye, picture: Fetched) -> tuple[dict[str, Any], np.ndarray | None]:
    """The row of a picture without its latent, and that latent, `float32 (h, w, c)`."""
    row = {**vars(picture.entry), "backbone": eye.live.backbone_sha256, "error": picture.error}
    if picture.error is not None:
        return row, None
    try:
        if hashlib.sha256(picture.data).hexdigest() != picture.entry.sha256:
            raise InvalidImage("Expected the file that was there when the job began; it has changed since.")
        image = eye.decode(picture)
        features, latent = eye.live.backbone.features_and_latent(image)
    except Exception as error:  # of any kind: decoders fail in many ways
        return row | {"error": reason_of(error, picture.entry.path)}, None
    thumbnail = thumbnails_of(image[None])[0].tobytes()
    return row | {"features": features.astype(np.float16), "thumbnail": thumbnail}, latent


def _keep_latents(rows: list[dict[str, Any]], latents: list[np.ndarray | None], scale: float) -> None:
    """Add the latents that a replay buffer of these pictures alone would keep to their rows."""
    seen = [(row, latent) for row, latent in zip(rows, latents, strict=True) if latent is not None]
    if not seen:
        return
    hashes = [row["sha256"] for row, _ in seen]
    labels = np.unique([row["label"] or NONE_OF_THESE for row, _ in seen], return_inverse=True)[1]
    builder, judged, keys = ReplayBufferBuilder(scale), held_out(hashes), keys_of(hashes)
    for (row, latent), label, out, key in zip(seen, labels, judged, keys, strict=True):
        builder.add(row["features"], latent, int(label), bool(out), int(key))
    buffer = builder.build(labels, judged, keys, photo=True).trimmed()
    buffer = buffer[buffer.has_latent]
    kept = dict(zip(buffer.keys.tolist(), buffer.latents[buffer.latent_rows], strict=True))
    for (row, _), key in zip(seen, keys.tolist(), strict=True):
        if key in kept:
            row["latent"] = kept[key].tobytes()


def _hand_over(features: Output, settings: Settings) -> None:
    """Keep the features of stored pictures where the service looks for them before it computes any."""
    cache = FeatureCache(settings.dataset_dir / "features.sqlite3")
    try:
        for table in features.parts(["sha256", "backbone", "features", "thumbnail", "error"]):
            rows = [row for row in table.to_pylist() if row["error"] is None]
            if rows:
                cache.put(rows[0]["backbone"], {row["sha256"]: _picture_features(row) for row in rows})
    finally:
        cache.close()


def _picture_features(row: dict[str, Any]) -> PictureFeatures:
    thumbnail = np.frombuffer(row["thumbnail"], np.uint8).reshape(16, 16)
    return PictureFeatures(np.array(row["features"], np.float16), thumbnail)
