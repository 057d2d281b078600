"""The autoregressive prior over codes, and surprise, which is -log p under the prior."""
