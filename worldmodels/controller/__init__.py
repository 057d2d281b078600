"""C: the controller and everything that searches for one."""
