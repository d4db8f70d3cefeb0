"""All layers of a network: inputs observed, batch norm adapted, units cut out of the graph and reconstructed."""
