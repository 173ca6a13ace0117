"""Stores: the protocol, what they share, and the two that come with oq."""
