"""Beam search: along a trie of what the catalogue knows, and freely."""
