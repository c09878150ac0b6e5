"""What is promised of open files is never more than there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtfc.web.descriptors import FEWEST, OF_CONNECTION, OF_HOT_BLOB, OTHERS, Fitting, fitting


@pytest.mark.parametrize(
    ("descriptors", "found"),
    [
        (1_000_000, Fitting(1000, 128)),
        (2600, Fitting(1000, 128)),
        (2300, Fitting(894, 128)),
        (1024, Fitting(337, 74)),
        (256, Fitting(64, 14)),
        (64, Fitting(17, 3)),
        (8, Fitting(8, 0)),
    ],
)
def test_what_fits(descriptors: int, found: Fitting) -> None:
    assert fitting(descriptors, 1000, 128) == found


@given(st.integers(64, 10**6), st.integers(1, 10**5), st.integers(0, 10**5))
def test_never_more_than_there_are(descriptors: int, connections: int, hot: int) -> None:
    fit = fitting(descriptors, connections, hot)
    assert fit.connections <= connections
    assert fit.hot_blobs <= hot
    if fit.connections > FEWEST:
        taken = OF_CONNECTION * fit.connections + OF_HOT_BLOB * fit.hot_blobs
        assert taken + min(OTHERS, descriptors // 3) <= descriptors
