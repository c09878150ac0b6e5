"""What is said of the machine that figures belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.machine import file_system

MOUNTS = """\
/dev/vda1 / ext4 rw,relatime 0 0
tmpfs /ram tmpfs rw,size=8m 0 0
/dev/vdb1 /srv/store ext4 rw,discard 0 0
"""


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("/srv/store/a", "ext4, no journal (rw,discard)"),
        ("/srv/storehouse", "ext4 (rw,relatime)"),
        ("/ram", "tmpfs (rw,size=8m)"),
    ],
)
def test_the_disk_is_the_one_that_the_folder_lies_on(
    tmp_path: Path, folder: str, said: str
) -> None:
    mounts, journals = tmp_path / "mounts", tmp_path / "jbd2"
    mounts.write_text(MOUNTS)
    (journals / "vda1-8").mkdir(parents=True)
    assert file_system(folder, str(mounts), str(journals)) == said


def test_where_nothing_tells_it_is_unknown(tmp_path: Path) -> None:
    assert file_system("/", str(tmp_path / "none")) == "unknown"
