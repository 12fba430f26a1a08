"""The architecture holds: who imports whom, what the pipeline's diagram says, and what the README promises."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.vocabulary import load_vocabulary
from tests.conftest import ROOT

PACKAGES = ("pipeline", "training", "serving")
MAY_IMPORT = {"pipeline": {"pipeline"}, "training": {"pipeline", "training"}, "serving": {"pipeline", "serving"}}
ONLY_IN_TRAINING = {"torch", "transformers", "accelerate", "nncf", "onnx", "onnxscript", "sklearn", "matplotlib"}
NOT_IN_SERVING = ONLY_IN_TRAINING | {"pandas", "datasets", "scipy"}
LONGEST_FUNCTION = 40
STAGES = [
    "ingest",
    "prepare",
    "train",
    "calibrate",
    "evaluate",
    "baselines",
    "export",
    "behaviour",
    "abstention",
    "cards",
    "report",
]

README = (ROOT / "README.md").read_text(encoding="utf-8")
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))


def modules(package: str) -> list[Path]:
    return sorted(path for path in (ROOT / package).rglob("*.py") if "versions" not in path.parts)  # not migrations


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in modules(package):
        strangers = imported(path) & set(PACKAGES) - MAY_IMPORT[package]
        assert not strangers, f"{path.relative_to(ROOT)} imports {strangers}"


def test_torch_is_imported_in_training_alone() -> None:
    for path in [*modules("pipeline"), *modules("serving")]:
        assert not imported(path) & ONLY_IN_TRAINING, path.relative_to(ROOT)


def test_serving_imports_nothing_heavy() -> None:
    for path in modules("serving"):
        assert not imported(path) & NOT_IN_SERVING, path.relative_to(ROOT)


@pytest.mark.parametrize(
    "path", [p for package in PACKAGES for p in modules(package)], ids=lambda p: str(p.relative_to(ROOT))
)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_functions_are_small() -> None:
    for path in [p for package in PACKAGES for p in modules(package)]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "create_app":
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= LONGEST_FUNCTION, f"{path.name}: {node.name} has {lines} lines"


def test_a_stage_is_a_module_a_section_and_a_metrics_file_of_one_name() -> None:
    assert list(DVC["stages"]) == STAGES
    sections = {
        f: yaml.safe_load((ROOT / "configs" / f).read_text(encoding="utf-8")) for f in ("data.yaml", "train.yaml")
    }
    for name, stage in DVC["stages"].items():
        module = stage["cmd"].removeprefix("python -m ")
        assert module.endswith(f".{name}")
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
        assert any(name in section for section in sections.values())
        assert f"metrics/{name}.json" in stage["metrics"][0]


def test_every_profile_configures_every_stage() -> None:
    data = yaml.safe_load((ROOT / "configs" / "data.yaml").read_text(encoding="utf-8"))
    train = yaml.safe_load((ROOT / "configs" / "train.yaml").read_text(encoding="utf-8"))
    for section in (*data.values(), *train.values()):
        assert set(section) == {"bundled", "public"}


def written(stage: dict[str, Any], kind: str) -> set[str]:
    """The paths under `outs` or `plots`, with options of their own or without."""
    return {path for entry in stage.get(kind, []) for path in ([entry] if isinstance(entry, str) else entry)}


def test_dvc_depends_on_files_that_exist() -> None:
    made = {path for stage in DVC["stages"].values() for kind in ("outs", "plots") for path in written(stage, kind)}
    made |= {f"metrics/{name}.json" for name in DVC["stages"]}
    for stage in DVC["stages"].values():
        for dependency in stage["deps"]:
            assert dependency in made or (ROOT / dependency).exists(), dependency


def test_the_readme_names_make_targets_and_files_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.M)) <= targets
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_readme_draws_the_folders_as_they_are() -> None:
    for name in re.findall(r"^([a-z.]+/)", README, re.M):
        assert (ROOT / name).is_dir(), name


def test_an_installed_copy_carries_its_configuration() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    carried = {path for pattern in setup["package-data"]["configs"] for path in (ROOT / "configs").glob(pattern)}
    assert "configs" in setup["packages"]["find"]["include"]
    assert carried == set((ROOT / "configs").iterdir())


def test_ci_runs_the_readmes_test_command() -> None:
    assert "make test" in README
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("exec make test")


def test_the_label_rules_speak_of_every_value() -> None:
    rules = (ROOT / "corpus" / "LABELS.md").read_text(encoding="utf-8")
    for name, head in load_vocabulary().heads.items():
        if head.auxiliary:
            continue
        assert name in rules
        for value in head.values:
            assert value in rules, f"{name}: {value}"


def test_every_pinned_requirement_is_in_the_constraints() -> None:
    pinned = {
        re.split(r"==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line
    }
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    required = set(re.findall(r'^  "([A-Za-z0-9-]+)(?:\[[a-z]+\])?",$', project, re.M))
    assert len(required) > 30
    assert {name.lower() for name in required} <= pinned
