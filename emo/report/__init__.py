"""What people look at: pages, figures, notes, and the view in Weights & Biases."""
