import os
import sys
from pathlib import Path

import pytest

from pipeline.config import ConfigError
from pipeline.ingest import IngestConfig
from pipeline.profile import DataMissing, choose, copy_corpora, files_of, main, write_profile
from pipeline.sources.exports import Export
from pipeline.stage import run

TEXT = "# Which profile runs\nprofile: bundled\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("airline_tweets.jsonl", "signals.jsonl", "diary.jsonl"):
        (folder / name).write_text(f"{name}\n", encoding="utf-8")
    return folder


def test_choosing_writes_the_name_and_copies_what_is_read(tmp_path: Path, file: Path, data: Path) -> None:
    copied = choose("public", data, file, tmp_path / "corpora")
    assert copied == ["airline_tweets.jsonl", "signals.jsonl"]
    assert sorted(path.name for path in (tmp_path / "corpora").iterdir()) == copied
    assert file.read_text(encoding="utf-8") == TEXT.replace("bundled", "public")


def test_exports_are_copied_with_the_corpora(tmp_path: Path, data: Path) -> None:
    config = IngestConfig(
        sources=("bundled", "airline_tweets"),
        exports=(Export(kind="zendesk", file="diary.jsonl"),),
        near_duplicate=0.8,
        near_duplicate_words=6,
    )
    assert files_of(config) == ["airline_tweets.jsonl", "diary.jsonl", "signals.jsonl"]
    assert "diary.jsonl" in copy_corpora(data, files_of(config), tmp_path / "corpora")


def test_the_bundled_profile_needs_no_data(tmp_path: Path, file: Path) -> None:
    file.write_text("profile: public\n", encoding="utf-8")
    assert choose("bundled", None, file, tmp_path / "corpora") == []
    assert file.read_text(encoding="utf-8") == "profile: bundled\n"


def test_corpora_that_are_there_already_do(tmp_path: Path, file: Path, data: Path) -> None:
    assert choose("public", None, file, data) == []
    assert "profile: public" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", [None, "empty"])
def test_without_its_corpora_a_profile_is_not_chosen(tmp_path: Path, file: Path, folder: str | None) -> None:
    if folder:
        (tmp_path / folder).mkdir()
    with pytest.raises(DataMissing, match=r"airline_tweets\.jsonl"):
        choose("public", tmp_path / folder if folder else None, file, tmp_path / "corpora")
    assert file.read_text(encoding="utf-8") == TEXT


def test_an_unknown_profile_is_not_chosen(tmp_path: Path, file: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.yaml › ingest › secret: no such section"):
        choose("secret", None, file, tmp_path / "corpora")
    assert file.read_text(encoding="utf-8") == TEXT


def test_an_unchanged_corpus_is_not_copied_again(tmp_path: Path, data: Path) -> None:
    corpora = tmp_path / "corpora"
    copy_corpora(data, ["signals.jsonl"], corpora)
    before = (corpora / "signals.jsonl").stat()
    copy_corpora(data, ["signals.jsonl"], corpora)
    assert (corpora / "signals.jsonl").stat().st_ctime_ns == before.st_ctime_ns


@pytest.mark.parametrize("text", ["much longer than it was", "SIGNALS.jsonl\n"])
def test_a_changed_corpus_is_copied_again(tmp_path: Path, data: Path, text: str) -> None:
    corpora = tmp_path / "corpora"
    copy_corpora(data, ["signals.jsonl"], corpora)
    (data / "signals.jsonl").write_text(text, encoding="utf-8")
    os.utime(data / "signals.jsonl", (2_000_000_000, 2_000_000_000))
    copy_corpora(data, ["signals.jsonl"], corpora)
    assert (corpora / "signals.jsonl").read_text(encoding="utf-8") == text


def test_the_folder_of_corpora_may_be_their_home(data: Path) -> None:
    assert copy_corpora(data, ["signals.jsonl"], data) == ["signals.jsonl"]


def test_a_choice_that_is_made_leaves_the_file_alone(file: Path) -> None:
    os.utime(file, (1_000_000_000, 1_000_000_000))
    write_profile("bundled", file)
    assert file.stat().st_mtime == 1_000_000_000


def test_the_command_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["profile", "secret"])
    with pytest.raises(SystemExit, match=r"^error: configs/data\.yaml › ingest › secret"):
        run(main)


def test_what_an_earlier_folder_left_is_taken_away_and_read_only_files_are_replaced(tmp_path: Path) -> None:
    first, second, corpora = tmp_path / "first", tmp_path / "second", tmp_path / "corpora"
    for folder, names in ((first, ("a.jsonl", "b.jsonl")), (second, ("a.jsonl",))):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(folder.name * 2, encoding="utf-8")
            (folder / name).chmod(0o444)
        copy_corpora(folder, ["a.jsonl", "b.jsonl"], corpora)
    assert [path.name for path in corpora.iterdir()] == ["a.jsonl"]
    assert (corpora / "a.jsonl").read_text(encoding="utf-8") == "secondsecond"


def test_labels_without_text_are_no_corpus(tmp_path: Path) -> None:
    (tmp_path / "signals.jsonl").write_text("{}\n", encoding="utf-8")
    file = tmp_path / "profile.yaml"
    file.write_text(TEXT, encoding="utf-8")
    with pytest.raises(DataMissing, match="airline_tweets"):
        choose("public", tmp_path, file, tmp_path / "corpora")
