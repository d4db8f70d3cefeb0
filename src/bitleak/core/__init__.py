"""The vocabulary every other room speaks: types, errors, seeds and checks."""
