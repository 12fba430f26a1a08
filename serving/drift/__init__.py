"""Whether what customers write, and what the model says of it, is still what the model was made for."""
