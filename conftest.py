"""For tests and doctests alike: every call of the package is compared with its annotations."""

import call_checks

call_checks.install("bitleak")
