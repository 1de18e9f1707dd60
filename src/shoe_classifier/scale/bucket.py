"""Files in a bucket that speaks S3: that of a cloud, or Supabase's. Address and keys are those of every S3 program."""

import os
from functools import cache
from typing import Any

from shoe_classifier.errors import InvalidRequest, NotFound, StoreUnavailable

PREFIX = "s3://"


@cache
def file_system() -> Any:
    """All buckets as an Arrow file system, by the variables `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID` and so on."""
    from pyarrow.fs import AwsDefaultS3RetryStrategy, S3FileSystem

    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")  # few services but Amazon's know others
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        connect_timeout=10,
        request_timeout=60,
        retry_strategy=AwsDefaultS3RetryStrategy(max_attempts=3),
        allow_delayed_open=True,  # or a small file takes three calls
    )


def key_of(address: str) -> str:
    """`s3://bucket/folder` to `bucket/folder`. Raises `InvalidRequest`."""
    key = address.removeprefix(PREFIX).strip("/")
    if not key:
        raise InvalidRequest(f"Expected an address such as s3://bucket/folder; received {address!r}.")
    return key


def read(key: str, max_bytes: int) -> bytes:
    """Read a file, `bucket/folder/name`; of a larger one, one byte more than `max_bytes`.

    Raises:
        NotFound: there is no such file.
        StoreUnavailable: the bucket does not answer, or refuses.
    """
    try:
        with file_system().open_input_stream(key) as stream:
            data: bytes = stream.read(max_bytes + 1)
            return data
    except FileNotFoundError:
        raise NotFound(f"Expected the picture {PREFIX}{key}; it is not in the bucket.") from None
    except OSError as error:
        raise unavailable(key, error) from error


def unavailable(key: str, error: OSError) -> StoreUnavailable:
    """What to say of a bucket that fails."""
    name = key.partition("/")[0]
    return StoreUnavailable(f"Expected to reach the bucket {name!r} by S3; received: {str(error)[:300]}")
