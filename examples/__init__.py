"""Runnable examples of pyqueue; each package has a README and is tested like the library."""
