"""Scenarios and labelled texts, ours and users', and their splits."""
