"""Texts that a model writes and rules check: scenarios with events, dialogues, stories."""
