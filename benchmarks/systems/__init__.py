"""One program per system. Each does the work it is told on the Redis it is given; `benchmarks.run` compares them."""
