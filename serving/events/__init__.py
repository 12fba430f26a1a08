"""Events on their way out: signed webhooks and a stream that resumes."""
