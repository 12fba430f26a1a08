"""Choose the profile that the DVC pipeline runs, and bring the corpora it reads to where DVC sees them.

python -m pipeline.profile bundled
python -m pipeline.profile public --data FOLDER
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.config import CONFIGS, ProfileConfig, load_config
from pipeline.errors import InputError
from pipeline.ingest import IngestConfig
from pipeline.sources import find_source
from pipeline.stage import CORPORA, run

FILE = CONFIGS / "profile.yaml"


class DataMissing(InputError):
    """The folder of corpora lacks what the profile reads."""


def choose(profile: str, data: Path | None, file: Path = FILE, corpora: Path = CORPORA) -> list[str]:
    """Write the profile's name and copy its corpora; what was copied. Raises ConfigError or DataMissing."""
    config = load_config(IngestConfig, "data.yaml", "ingest", profile)
    texts = text_files(config)
    copied = copy_corpora(data, files_of(config), corpora) if data else []
    if texts and not any((corpora / name).is_file() for name in texts):
        raise DataMissing(
            f"profile {profile} reads {', '.join(sorted(set(texts)))}: say where they are with DATA=folder"
        )
    write_profile(profile, file)
    return copied


def files_of(config: IngestConfig) -> list[str]:
    """The files that a profile reads from the folder of corpora."""
    return [*text_files(config), *(name for source in config.sources for name in find_source(source).labels)]


def text_files(config: IngestConfig) -> list[str]:
    """Those without which it reads nothing there."""
    files = [name for source in config.sources for name in find_source(source).files]
    return [*files, *(export.file for export in config.exports)]


def copy_corpora(data: Path, wanted: Sequence[str], corpora: Path) -> list[str]:
    """Copy the wanted files that the folder has, unless they are there and equal in size and age; take away the others,
    which an earlier folder left."""
    found = sorted({name for name in wanted if (data / name).is_file()})
    if wanted and not found:
        raise DataMissing(f"{data} holds none of {', '.join(sorted(set(wanted)))}")
    corpora.mkdir(parents=True, exist_ok=True)
    for name in wanted:
        if name not in found:
            (corpora / name).unlink(missing_ok=True)
        elif not _unchanged(data / name, corpora / name):
            (corpora / name).unlink(missing_ok=True)  # a read-only copy cannot be written over
            shutil.copy2(data / name, corpora / name)
    return found


def _unchanged(new: Path, old: Path) -> bool:
    if not old.is_file():
        return False
    was, now = old.stat(), new.stat()
    return (was.st_size, was.st_mtime_ns) == (now.st_size, now.st_mtime_ns)


def write_profile(profile: str, file: Path) -> None:
    """Write the choice, leaving the file alone where it is made already."""
    if load_config(ProfileConfig, file.name, folder=file.parent).profile == profile:
        return
    lines = file.read_text(encoding="utf-8").splitlines()
    chosen = [f"profile: {profile}" if line.startswith("profile:") else line for line in lines]
    file.write_text("\n".join(chosen) + "\n", encoding="utf-8")


def main() -> None:
    """Choose a profile."""
    parser = argparse.ArgumentParser(description="Choose the profile that the pipeline runs.")
    parser.add_argument("profile")
    parser.add_argument("--data", type=Path, help="folder of corpora that are not the project's")
    given = parser.parse_args()
    copied = choose(given.profile, given.data)
    print(f"profile {given.profile}" + (f", corpora: {', '.join(copied)}" if copied else ""))


if __name__ == "__main__":
    run(main)
