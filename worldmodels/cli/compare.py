"""`wm compare`."""
