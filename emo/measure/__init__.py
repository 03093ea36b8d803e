"""What is measured under an arm: projections, doses, margins, damage, labels, predictions."""
