"""Who should take a conversation, and what a policy would do."""
