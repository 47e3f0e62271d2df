"""Views of a queue: look at it and administer it, one subject per module. Held by `Queue` as attributes."""
