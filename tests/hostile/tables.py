"""All tables of cases that are read at once; bombs are in `bombs`."""

from __future__ import annotations

from . import (
    cases_archives,
    cases_dcp,
    cases_flow,
    cases_gguf,
    cases_hdf5,
    cases_impostors,
    cases_legacy,
    cases_names,
    cases_npy,
    cases_packed,
    cases_safetensors,
    cases_said,
    cases_state,
    cases_tar,
    cases_tensors,
    cases_torch7,
    cases_torch_tar,
    cases_torchscript,
    cases_values,
)
from .case import Case

CASES: tuple[Case, ...] = (
    *cases_names.CASES,
    *cases_state.CASES,
    *cases_flow.CASES,
    *cases_tensors.CASES,
    *cases_archives.CASES,
    *cases_impostors.CASES,
    *cases_npy.CASES,
    *cases_gguf.CASES,
    *cases_hdf5.CASES,
    *cases_torch7.CASES,
    *cases_torchscript.CASES,
    *cases_tar.CASES,
    *cases_torch_tar.CASES,
    *cases_legacy.CASES,
    *cases_packed.CASES,
    *cases_safetensors.CASES,
    *cases_dcp.CASES,
    *cases_values.CASES,
    *cases_said.CASES,
)
