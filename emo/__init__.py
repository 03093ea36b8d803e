"""Find, test and control the machinery of emotion in language models."""
