"""Models, their sites and hooks; prompts, passes, capture and generation."""
