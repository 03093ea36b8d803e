"""What is done to a model: ops, and the arms that compare them."""
