"""From stages to numbers, and from numbers to the files of a result and of a table."""
