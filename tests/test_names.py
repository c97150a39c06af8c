import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellpheno import names

rows = st.integers(0, 31).map(names.row_name)
columns = st.integers(1, 48)


@given(rows, columns, st.sampled_from(["", "-", "/", "_", " "]), st.booleans(), st.booleans())
def test_every_spelling_of_a_well_is_read_as_one_name(row, column, between, lower, padded):
    text = f"{row}{between}{column:02d}" if padded else f"{row}{between}{column}"
    assert names.parse_well(text.lower() if lower else text) == f"{row}{column:02d}"


@given(rows, columns)
def test_a_well_survives_being_taken_apart(row, column):
    assert names.well_name(*names.split_well(f"{row}{column}")) == f"{row}{column:02d}"


@pytest.mark.parametrize("text", ["", "B", "3", "Z99", "AG01", "B0", "B003", "1B", "BB B"])
def test_what_is_no_well_is_refused_by_name(text):
    with pytest.raises(ValueError, match="wanted a row A to AF"):
        names.parse_well(text)


def test_a_rectangle_of_wells_is_read_row_by_row():
    assert names.parse_wells("B03-C04") == ("B03", "B04", "C03", "C04")
    assert names.parse_wells(["c4", "B03-B04"]) == ("B03", "B04", "C04")


def test_a_rectangle_from_the_wrong_corner_is_refused():
    with pytest.raises(ValueError, match="first corner"):
        names.parse_wells("D06-B03")


def test_two_channels_that_would_share_a_column_are_refused():
    with pytest.raises(ValueError, match=r"\['GFP-1', 'GFP1'\] would share"):
        names.channel_tokens(["GFP-1", "DNA", "GFP1"])


@given(st.sampled_from(names.COMPARTMENTS), st.sampled_from(["AreaShape_Area", "Texture_Contrast_ER_3_00_256"]))
def test_a_feature_name_survives_being_taken_apart(compartment, rest):
    assert str(names.parse_feature(f"{compartment}_{rest}")) == f"{compartment}_{rest}"


def test_metadata_is_no_feature():
    assert not names.is_feature(names.WELL)
    with pytest.raises(ValueError, match="Metadata_Well"):
        names.parse_feature(names.WELL)
