"""What happened, told to others: webhooks and a stream."""
