"""Representations that MAP-Elites discovers: autoencoders of elites, trained while it searches."""
