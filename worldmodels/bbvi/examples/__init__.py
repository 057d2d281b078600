"""Models to try black-box variational inference on, and the experiments with them."""
