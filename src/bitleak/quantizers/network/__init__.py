"""All layers of a network: inputs, batch norm, and units of the graph that are reconstructed."""
