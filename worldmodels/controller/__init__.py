"""C, the controller, and the code that searches for its parameters."""
