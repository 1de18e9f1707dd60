"""The folder that a job writes: one Parquet file for each shard, and what a rerun needs to go on where it stopped.

A shard is a few hundred pictures. Its file appears whole or not at all, so the files that are there are what is done,
however a worker, a machine or the job as a whole ended.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from shoe_classifier.errors import AppError, InvalidRequest, disk_error
from shoe_classifier.files import remove_leftovers, replacing
from shoe_classifier.scale import bucket
from shoe_classifier.scale.manifest import Entry

# Readers of Parquet folders skip names with an underscore.
JOB, MANIFEST, MODEL = "_job.json", "_manifest.parquet", "_model.h5"
SHARD_PICTURES = 500
_PART, _BEGUN = "part-{:06d}.parquet", "_begun-{:06d}.json"


@dataclass(frozen=True)
class Job:
    """What a folder is the output of. A rerun must ask for the same.

    Attributes:
        task: what is done with each picture.
        source: where they are, as given.
        model_version, model_sha256: the model file that does it; a copy lies beside.
        pictures, shards: how many there are.
    """

    task: str
    source: str
    model_version: str
    model_sha256: str
    pictures: int
    shards: int


# Of each process that has begun a shard, at which of its pictures it was; None if it did not say so.
Attempts = list[int | None]


@dataclass(frozen=True)
class Output:
    """A folder that all workers can write to: on a disk that they share, or in a bucket, `s3://bucket/folder`."""

    address: str

    @property
    def in_bucket(self) -> bool:
        return self.address.startswith(bucket.PREFIX)

    @property
    def folder(self) -> Path:
        return Path(self.address)

    @cached_property
    def _files(self) -> Any:
        """The folder as an Arrow file system."""
        from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

        if self.in_bucket:
            return SubTreeFileSystem(bucket.key_of(self.address), bucket.file_system())
        return SubTreeFileSystem(self.address, LocalFileSystem())

    def __getstate__(self) -> dict[str, Any]:
        return {"address": self.address}  # not the open file system

    def names(self) -> set[str]:
        """The names of the files that are there, without those that are still being written."""
        from pyarrow.fs import FileSelector

        try:
            found = self._files.get_file_info(FileSelector("", allow_not_found=True))
        except OSError as error:
            raise self.cannot_write(error) from error
        return {item.base_name for item in found if not item.base_name.startswith(".")}

    def read(self, name: str) -> bytes:
        """Read a file as a whole. Raises `FileNotFoundError`."""
        with self._files.open_input_stream(name) as stream:
            data: bytes = stream.read()
            return data

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Write a file, which appears whole or not at all, replacing one of the same name."""
        if self.in_bucket:
            with self._files.open_output_stream(name) as stream:
                stream.write(data)
            return
        with replacing(self.folder / name, durable=durable) as part:
            part.write_bytes(data)

    def job(self) -> Job | None:
        """The job that the folder belongs to, if one has begun."""
        return Job(**json.loads(self.read(JOB))) if JOB in self.names() else None

    def begin(self, task: str, source: str, entries: Iterable[Entry], model: bytes, version: str, sha256: str) -> Job:
        """Keep what is to be done, and the model that does it.

        Raises:
            InvalidRequest: the folder holds something else, or there are no pictures.
            AppError: it cannot be written.
        """
        others = sorted(name for name in self.names() if not name.startswith("_"))
        if others:
            raise InvalidRequest(
                f"Expected a new folder for the output, or that of the same job; {self.address} holds {others[0]!r}."
            )
        try:
            if not self.in_bucket:
                self.folder.mkdir(parents=True, exist_ok=True)
                remove_leftovers(self.folder)
            self.write(MODEL, model)
            pictures, shards = self._write_manifest(entries)
            job = Job(task, source, version, sha256, pictures, shards)
            self.write(JOB, json.dumps(asdict(job), indent=2).encode())
        except OSError as error:
            raise self.cannot_write(error) from error
        return job

    def cannot_write(self, error: OSError) -> AppError:
        """What to say of a folder that cannot be written."""
        text = f"Expected a folder for the output; received {self.address} ({str(error)[:300]})."
        return disk_error(error) or InvalidRequest(text)

    def _write_manifest(self, entries: Iterable[Entry]) -> tuple[int, int]:
        """Write the pictures, a group of rows for each shard. Returns the number of both."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([(field.name, pa.string()) for field in fields(Entry)])
        pictures, shards, rest = 0, 0, iter(entries)
        with pq.ParquetWriter(MANIFEST, schema, filesystem=self._files) as writer:
            while shard := list(islice(rest, SHARD_PICTURES)):
                columns = [_text([getattr(entry, name) for entry in shard]) for name in schema.names]
                writer.write_table(pa.table(columns, schema=schema))
                pictures, shards = pictures + len(shard), shards + 1
        if not pictures:
            raise InvalidRequest("Expected pictures; the source holds none.")
        return pictures, shards

    @cached_property
    def _manifest(self) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetFile(MANIFEST, filesystem=self._files)

    def entries(self, shard: int) -> list[Entry]:
        """The pictures of a shard."""
        return [Entry(**row) for row in self._manifest.read_row_group(shard).to_pylist()]

    def missing(self, job: Job) -> list[int]:
        """The shards that are still to be done."""
        done = self.names()
        return [shard for shard in range(job.shards) if part_name(shard) not in done]

    def begun(self) -> dict[int, Attempts]:
        """The shards that processes have begun and not ended."""
        prefix = _BEGUN.partition("{")[0]
        shards = [int(Path(name).stem.removeprefix(prefix)) for name in self.names() if name.startswith(prefix)]
        return {shard: attempts for shard in shards if (attempts := self.attempts(shard))}

    def attempts(self, shard: int) -> Attempts:
        """The processes that have begun a shard and not ended it."""
        try:
            attempts: Attempts = json.loads(self.read(_BEGUN.format(shard)))
        except FileNotFoundError:
            return []
        return attempts

    def note_attempts(self, shard: int, attempts: Attempts) -> None:
        """Keep what `attempts` returns. A process that is killed leaves it behind; a power cut may take it away."""
        if attempts:
            self.write(_BEGUN.format(shard), json.dumps(attempts).encode(), durable=False)
            return
        with contextlib.suppress(FileNotFoundError):
            self._files.delete_file(_BEGUN.format(shard))

    def count(self, shards: Iterable[int]) -> int:
        """How many pictures some shards have."""
        groups = self._manifest.metadata
        return sum(groups.row_group(shard).num_rows for shard in shards)

    def below(self, name: str) -> "Output":
        """A folder in this one."""
        return Output(f"{self.address}/{name}")

    def parts(self, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """Yield the tables of the shards that are done, in their order, one at a time."""
        import pyarrow.parquet as pq

        for name in sorted(name for name in self.names() if name.startswith(_PART.partition("{")[0])):
            with pq.ParquetFile(name, filesystem=self._files) as file:
                yield file.read(columns)

    def write_part(self, shard: int, table: Any) -> None:
        """Write the rows of a shard."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd")
        self.write(part_name(shard), buffer.getvalue().to_pybytes())


def part_name(shard: int) -> str:
    """The name of a shard's file."""
    return _PART.format(shard)


def open_output(address: str) -> Output:
    """The folder at an address, which need not exist yet."""
    return Output(address if address.startswith(bucket.PREFIX) else str(Path(address).absolute()))


def _text(values: list[str | None]) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"Expected names in UTF-8; received {error.object!r}.") from error
