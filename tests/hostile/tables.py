"""All tables of cases that are read at once; bombs are in `bombs`."""

from __future__ import annotations

from . import cases_archives, cases_flow, cases_impostors, cases_names, cases_said, cases_state, cases_tensors
from .case import Case

CASES: tuple[Case, ...] = (
    *cases_names.CASES,
    *cases_state.CASES,
    *cases_flow.CASES,
    *cases_tensors.CASES,
    *cases_archives.CASES,
    *cases_impostors.CASES,
    *cases_said.CASES,
)
