"""What `benchmarks/peers.py` is made of: environments, servers, one driver per system, and the table."""
