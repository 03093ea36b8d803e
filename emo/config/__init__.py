"""What may be typed, and whether it fits together: read and checked before torch is loaded."""
