from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import ConfigError
from pipeline.profile import DataMissing, choose


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text("# which\nprofile: bundled\n", encoding="utf-8")
    return path


def test_a_profile_is_written_and_the_comment_stays(file: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "airline_tweets.jsonl").write_text("", encoding="utf-8")
    (data / "unrelated.jsonl").write_text("", encoding="utf-8")
    corpora = tmp_path / "corpora"
    assert choose("public", data, file, corpora) == ["airline_tweets.jsonl"]
    assert file.read_text(encoding="utf-8") == "# which\nprofile: public\n"
    assert [path.name for path in corpora.iterdir()] == ["airline_tweets.jsonl"]


def test_the_bundled_profile_needs_no_data(file: Path, tmp_path: Path) -> None:
    assert choose("bundled", None, file, tmp_path / "corpora") == []


def test_an_unknown_profile_changes_nothing(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        choose("nonsense", None, file, tmp_path)
    assert "bundled" in file.read_text(encoding="utf-8")


def test_a_folder_without_corpora_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"airline_tweets\.jsonl"):
        choose("public", tmp_path, file, tmp_path / "corpora")
