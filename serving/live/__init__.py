"""Conversations that live here: every change of one, from its first message to its erasure."""
