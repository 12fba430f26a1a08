"""The toy's card as it was before there were references, and its encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from pipeline.bundle import LAYOUT, Card, read_card
from pipeline.encode import Encoder
from tests.serving.toy import ENCODING


@pytest.fixture(scope="session")
def toy_card(toy: Path) -> Card:
    return read_card(toy / LAYOUT.card)


@pytest.fixture(scope="session")
def encoder(toy: Path) -> Encoder:
    return Encoder(Tokenizer.from_file(str(toy / LAYOUT.tokenizer)), ENCODING)
