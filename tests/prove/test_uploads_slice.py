"""A slice of the uploads by other people's clients, killed and not killed."""

from __future__ import annotations

import pytest

from prove import uploads
from tests.support.programs import require_npm_package, require_program


@pytest.mark.parametrize("name", [*uploads.TUSPY, *uploads.NODE_JS])
def test_a_client_is_killed_and_goes_on(seed: int, name: str) -> None:
    npm = ""
    if name in uploads.NODE_JS:
        require_program("node")
        require_npm_package("@uppy/core")
        require_npm_package("@uppy/tus")
        npm = require_npm_package("tus-js-client")
    mode = {**uploads.TUSPY, **uploads.NODE_JS}[name]

    row = uploads.one_client(seed, 0.01, name, mode, npm)

    print(row.cases)
    assert row.violations == 0, "\n".join(row.examples)
