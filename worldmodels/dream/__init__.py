"""M as an environment: start states, rollouts, and Gymnasium environments around them."""
