"""Restores: what a point is brought back with, and what of that Compute Engine alone holds."""
