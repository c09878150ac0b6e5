"""A seed of its own for every run, printed so that it can be had again."""

from __future__ import annotations

import os
import secrets

import pytest


@pytest.fixture
def seed() -> int:
    """Return ``DTFC_SEED``, or a new one; pytest shows it when the test fails, or with -s."""
    number = int(os.environ.get("DTFC_SEED") or secrets.randbelow(1 << 32))
    print(f"seed: DTFC_SEED={number}")
    return number
