"""Tells twistd that there is a dtfc; every run of any twistd reads this, so it imports nothing."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

dtfc = ServiceMaker(
    "dtfc",
    "dtfc.tap",
    "A content-addressed HTTP mirror that loads what it lacks from its peers.",
    "dtfc",
)
