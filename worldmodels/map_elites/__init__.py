"""Representations that MAP-Elites discovers: autoencoders of elites, trained during the search."""
