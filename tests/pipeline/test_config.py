from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.config import Config, ConfigError, current_profile, load_config
from pipeline.ingest import IngestConfig
from pipeline.prepare import PrepareConfig


class Oven(Config):
    degrees: int
    racks: tuple[str, ...] = ()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = "bake:\n  slow: {degrees: 90, racks: [low]}\n  bad: {degrees: hot}\n  odd: {degrees: 9, fan: 1}\n  none:\n"
    (tmp_path / "oven.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_section_becomes_its_model(folder: Path) -> None:
    assert load_config(Oven, "oven.yaml", "bake", "slow", folder=folder) == Oven(degrees=90, racks=("low",))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (("bake", "fast"), r"configs/oven\.yaml › bake › fast: no such section"),
        (("bake", "slow", "degrees", "deep"), r"› degrees › deep: no such section"),
        (("bake", "bad"), r"configs/oven\.yaml › bake › bad: degrees: .*integer"),
        (("bake", "odd"), r"› odd: fan: Extra inputs are not permitted"),
        (("bake", "none"), r"› none: "),
        ((), r"configs/oven\.yaml: degrees: Field required"),
    ],
)
def test_what_is_wrong_names_file_section_and_key(folder: Path, section: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(Oven, "oven.yaml", *section, folder=folder)


def test_a_configuration_never_changes() -> None:
    oven = Oven(degrees=90)
    with pytest.raises(ValidationError):
        oven.degrees = 100  # type: ignore[misc]


@pytest.mark.parametrize("profile", ["bundled", "public"])
def test_the_projects_profiles_configure_the_data_stages(profile: str) -> None:
    assert load_config(IngestConfig, "data.yaml", "ingest", profile).sources[0] == "bundled"
    assert load_config(PrepareConfig, "data.yaml", "prepare", profile).encoding.max_tokens <= 512


def test_the_chosen_profile_is_one_of_them() -> None:
    assert current_profile() in ("bundled", "public")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"configs/serve\.yaml"):
        load_config(Oven, "serve.yaml", folder=tmp_path)


@pytest.mark.parametrize(
    "content", [b"[" * 2_000, b"degrees: 2026-99-99", b"degrees: " + b"9" * 5_000, b"\xff", b"[", b""]
)
def test_what_is_no_document_is_an_error_of_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "oven.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^configs/oven\.yaml: [^\n]+$"):
        load_config(Oven, "oven.yaml", folder=tmp_path)
