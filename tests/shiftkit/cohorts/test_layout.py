from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftkit.cohorts.layout import candidate, read_filters
from shiftkit.errors import ConfigError

letters = st.text("abcXYZ019", min_size=1, max_size=5)


@given(letters, letters, letters)
def test_further_entities_never_change_what_a_file_is(space: str, desc: str, model: str) -> None:
    """A file stays the FA map whatever space, description or model its name tells, and loses to the plain name."""
    further = candidate(Path(f"sub-01_space-{space}_model-{model}_param-fa_desc-{desc}_dwimap.nii.gz"))
    plain = candidate(Path("sub-01_param-fa_dwimap.nii.gz"))
    assert further is not None and plain is not None
    assert further.slot == plain.slot == ("image", "fa")
    assert further.rank > plain.rank


@pytest.mark.parametrize("text", ["", "[]", '{"t1w": 3}', '{"t1w": {"space": {}}}', "{"])
def test_bad_filter_files_are_usage_errors(text: str, tmp_path: Path) -> None:
    """A filter file of any other shape is refused with the file's name."""
    path = tmp_path / "filter.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"filter\.json"):
        read_filters(path)


@pytest.mark.parametrize(
    ("name", "slot"),
    [
        ("sub-01_hemi-L_label-AF_mask.nii.gz", ("mask", "AFleft")),
        ("sub-01_hemi-R_label-AF_probseg.nii.gz", ("probseg", "AFright")),
        ("sub-01_label-AFleft_mask.nii.gz", ("mask", "AFleft")),
        ("sub-01_param-FA_dwimap.nii.gz", ("image", "fa")),
        ("sub-01_param-MD_dwimap.nii.gz", ("image", "MD")),
    ],
)
def test_entities_of_other_tools(name: str, slot: tuple[str, str]) -> None:
    """The hemisphere may be an entity of its own, and known maps may be written large; both are plain names."""
    found = candidate(Path(name))
    assert found is not None and (found.slot, found.rank) == (slot, 0)
