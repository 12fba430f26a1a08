"""Who may ask, how much, and what of."""
