"""What is done to a model: arms, and the edits behind them."""
