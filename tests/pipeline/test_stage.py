from __future__ import annotations

import errno

import pytest

from pipeline.errors import InputError
from pipeline.stage import run


@pytest.mark.parametrize(
    ("problem", "shown"),
    [
        (InputError("corpus.jsonl line 3: text: missing"), "error: corpus.jsonl line 3: text: missing"),
        (OSError(errno.ENOSPC, "No space left on device", "build/x"), "No space left on device: 'build/x'"),
    ],
)
def test_what_a_person_can_mend_is_told_in_a_line(problem: Exception, shown: str) -> None:
    def stage() -> None:
        raise problem

    with pytest.raises(SystemExit) as ended:
        run(stage)
    assert shown in str(ended.value)
    assert "\n" not in str(ended.value)


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    def stage() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        run(stage)
