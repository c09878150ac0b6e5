"""What is remembered of uploads that were begun, so that a later process goes on with them.

One small file for each, in a folder of the user's own. It names the upload's address at
the node, which whoever knows it may write to: so nobody else may read it. An upload is found
by the node and by what is sent (for a file: path, length and time of change).

Rules of this file: all of it blocks. Whatever makes no sense is nothing remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

_LARGEST = 16 * 1024
_TOO_OLD = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class UploadStates:
    """The folder.

    Args:
        folder: its path; made when there is need of it.
    """

    folder: str

    def find(self, node: str, key: str, name: str | None) -> str | None:
        """Return the path (on the node) of an upload that was begun; None if there is none."""
        try:
            with open(self._path(node, key, name), encoding="utf-8") as file:
                told = json.loads(file.read(_LARGEST))
            if told["node"] == node and told["key"] == key:
                upload = told["upload"]
                return upload if isinstance(upload, str) else None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def keep(self, node: str, key: str, name: str | None, upload: str) -> None:
        """Remember an upload; nothing is said if that cannot be done: it begins anew then."""
        path = self._path(node, key, name)
        content = {"node": node, "key": key, "name": name, "upload": upload}
        draft = f"{path}.{secrets.token_hex(4)}"
        with contextlib.suppress(OSError):
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(content, file)
            os.rename(draft, path)

    def forget(self, node: str, key: str, name: str | None) -> None:
        """Remember it no longer."""
        with contextlib.suppress(OSError):
            os.unlink(self._path(node, key, name))

    def sweep(self, now: float) -> None:
        """Forget what nobody has gone on with for a month.

        Args:
            now: seconds since 1970.
        """
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                if now - entry.stat(follow_symlinks=False).st_mtime > _TOO_OLD:
                    os.unlink(entry.path)

    def _path(self, node: str, key: str, name: str | None) -> str:
        what = "\0".join((node, key, name or "")).encode("utf-8", "surrogateescape")
        return f"{self.folder}/{hashlib.sha256(what).hexdigest()}.json"


def default_states(environment: Mapping[str, str]) -> str:
    """Return the folder where uploads are remembered: ``$XDG_STATE_HOME/dtfc/uploads``."""
    home = environment.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):
        home = os.path.join(environment.get("HOME", "/"), ".local", "state")
    return os.path.join(home, "dtfc", "uploads")
