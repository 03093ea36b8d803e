"""Interactive charts of a page: Vega-Lite specifications from plain numbers, what draws them, and their files."""
