"""One layer at a time: sums over its inputs, the error of its output, and searches for codes that lower it."""
