"""Who may call, how often and how much: API keys, rate limits, limits of a request. Knows nothing of conversations."""
