"""What a person can mend: a command shows the message of such an error, without a traceback."""

from __future__ import annotations


class InputError(ValueError):
    """Base of errors in configuration, corpora or data; the message says where and what."""
