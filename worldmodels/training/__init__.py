"""The fit loop, and further code that all training stages share."""
