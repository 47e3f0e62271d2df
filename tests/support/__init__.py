"""What several tests share: a real server, dumps of the key space, waiting for a condition."""
