"""The one fit loop, and what training stages share around it."""
