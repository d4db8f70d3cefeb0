"""Training one model: `recipe` says how (and imports no torch), `fit` does it."""
