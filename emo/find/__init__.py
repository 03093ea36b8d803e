"""Where an emotion lies: directions, scores of units, importance of sublayers, circuits, selectors."""
