"""Students of UNets: which blocks stay, how wide they are, and whose weights they take over."""
