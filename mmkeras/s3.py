"""Access to s3:// objects by boto3, for TensorFlow without tensorflow-io."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

SCHEME = "s3://"


def read(path: str) -> bytes:
    """Reads an object.

    Raises:
        FileNotFoundError, PermissionError, OSError: As for a local file.
    """
    bucket, key = split(path)
    with os_errors(path):
        return client().get_object(Bucket=bucket, Key=key)["Body"].read()


def split(path: str) -> tuple[str, str]:
    """Returns the bucket and the key of s3://BUCKET/KEY."""
    bucket, _, key = path.removeprefix(SCHEME).partition("/")
    return bucket, key


def client():
    """Returns the client of this process, configured by AWS environment variables."""
    return _client(os.getpid())  # a fork must not share connections


@cache
def _client(process: int):
    import boto3

    # boto3 reads AWS_DEFAULT_REGION; other clients and EKS use AWS_REGION.
    region = os.environ.get("AWS_REGION")
    return boto3.session.Session().client("s3", region_name=region)


@contextmanager
def os_errors(path: str) -> Iterator[None]:
    """Converts errors of boto3 on `path` into those of a local file."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        reason = "s3:// needs boto3: pip install '.[s3]' in the folder of mmkeras"
        raise OSError(95, reason, path) from None
    try:
        yield
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            raise FileNotFoundError(2, "No such file", path) from None
        if status == 403:
            raise PermissionError(13, "Permission denied", path) from None
        raise OSError(5, str(error), path) from None
    except BotoCoreError as error:  # no credentials, no network
        raise OSError(5, str(error), path) from None
