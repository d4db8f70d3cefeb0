"""One layer at a time: sums over its inputs, its output's error, and searches for better codes."""
