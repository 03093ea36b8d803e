"""What is measured on a reply or a state; one idea per file."""
