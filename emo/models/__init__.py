"""Loading models, and where their sites are."""
