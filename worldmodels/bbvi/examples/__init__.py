"""Example models for black-box variational inference, and experiments with them."""
