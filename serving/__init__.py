"""Bundle in, decisions out: scorer, policy, API, command line. Never imports training, torch or pandas."""
