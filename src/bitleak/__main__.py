"""`python -m bitleak`."""

from bitleak.cli import entry

if __name__ == "__main__":
    entry()
