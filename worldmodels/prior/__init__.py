"""The autoregressive prior over codes, and the surprise of frames: -log p under the prior."""
