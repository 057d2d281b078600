"""Dreams, in which M is the environment: start states, rollouts and Gymnasium environments."""
