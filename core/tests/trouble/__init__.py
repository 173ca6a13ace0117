"""What may go wrong with an LMDB store: writes that fail, bugs that take no notice, and other processes that write."""
