"""Uploads one file as a program with tuspy does; goes on where an earlier run was killed.

    python upload.py MODE ENDPOINT FILE STORAGE CHUNK

It tells each offset that it hears, a line each, on its output.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.storage.filestorage import FileStorage


def main(mode: str, endpoint: str, file: str, storage: str, chunk: str) -> None:
    """Upload until it is done."""
    while True:
        try:
            send(mode, endpoint, file, storage, int(chunk))
        except (TusCommunicationError, OSError) as error:
            # A node that is being started anew.
            print(f"again {error}".splitlines()[0], flush=True)
            time.sleep(0.1)
        else:
            return


def send(mode: str, endpoint: str, file: str, storage: str, chunk: int) -> None:
    """Go on with the upload, or begin it."""
    # tuspy's types do not reach this far.
    uploader: Any = TusClient(endpoint).uploader(
        file_path=file,
        chunk_size=chunk,
        store_url=True,
        url_storage=FileStorage(storage),  # type: ignore[no-untyped-call] # tuspy's own
        metadata={"filename": os.path.basename(file)},
        upload_checksum=mode == "checksum",
    )
    size = os.stat(file).st_size
    while uploader.offset < size:
        if uploader.url:
            print(f"offset {uploader.url} {uploader.offset}", flush=True)
        uploader.upload_chunk()
    print(f"offset {uploader.url} {uploader.offset}", flush=True)
    print(f"done {uploader.url}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
