"""Routing: who may take a conversation, in which order they wait, and what another policy would change."""
