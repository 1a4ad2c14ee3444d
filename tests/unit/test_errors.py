"""Every error a user can meet is one line with a place and a remedy, and has an exit code of its own."""

import pytest

from uadcli import errors

CODES = {
    "UsageError": 2,
    "InputError": 3,
    "WeightsError": 4,
    "DeviceError": 5,
    "OutputError": 6,
    "QualityError": 7,
    "BatchError": 8,
}


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_exit_codes_are_those_documented(name, code):
    assert getattr(errors, name).exit_code == code
    assert issubclass(getattr(errors, name), errors.UadError)


def test_no_kind_of_error_is_undocumented():
    kinds = {kind.__name__ for kind in errors.UadError.__subclasses__() if kind.__module__ == errors.__name__}
    assert kinds == set(CODES)


def test_the_line_names_file_fault_and_remedy():
    error = errors.InputError("is not a NIfTI file", path="scan.nii", hint="Convert it with dcm2niix.")
    assert str(error) == "scan.nii: is not a NIfTI file. Convert it with dcm2niix."


def test_the_line_is_one_line_even_if_its_parts_are_not():
    assert "\n" not in str(errors.InputError("one\ntwo", path="a\nb", hint="three\n\nfour"))
    assert str(errors.UadError("bare")) == "bare"
