"""Writing only what the catalogue knows: a trie over the items' token sequences, and beam search along it."""
