"""The fit loop, and the code around it that all training stages share."""
