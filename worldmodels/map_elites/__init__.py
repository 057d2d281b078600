"""MAP-Elites with an autoencoder that is trained on the elites during the search."""
