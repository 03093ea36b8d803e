"""What every room uses: errors, console, store, digests, signals. It knows nothing of models."""
