"""The autoregressive prior over codes, and surprise: the negative log-likelihood under it."""
