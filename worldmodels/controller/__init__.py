"""The controller C, and the searches for C's parameters."""
