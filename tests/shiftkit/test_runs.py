"""A run's folder: begun, continued, and never somebody else's."""

from pathlib import Path

import pytest

from shiftkit.errors import ConfigError
from shiftkit.runs import Run


def test_a_run_continues_in_its_own_folder_only(tmp_path: Path) -> None:
    """What the same verb began goes on; other verbs' runs and folders of the user's stay as they are."""
    Run(root=tmp_path / "run", verb="decompose", settings={"seed": 3}).open()
    assert "seed = 3" in (tmp_path / "run" / "config.toml").read_text()
    with pytest.raises(ConfigError, match="Give `resume`"):
        Run(root=tmp_path / "run", verb="decompose").open()
    Run(root=tmp_path / "run", verb="decompose", resume=True).open()
    with pytest.raises(ConfigError, match="a run of shiftkit deform"):
        Run(root=tmp_path / "run", verb="deform", resume=True).open()
    for name, text in {"notes": "mine", "config": "[decompose", "settings": "[other]\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.toml").write_text(text)
        (tmp_path / name / ".part-of-mine").write_text("mine")
        with pytest.raises(ConfigError, match="holds files that none wrote"):
            Run(root=tmp_path / name, verb="decompose", resume=True).open()
        assert (tmp_path / name / "config.toml").read_text() == text
        assert (tmp_path / name / ".part-of-mine").read_text() == "mine"
