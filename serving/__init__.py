"""Bundle in, decisions out: scorer, policy, API, command line. Knows nothing of training; never imports torch or pandas."""
