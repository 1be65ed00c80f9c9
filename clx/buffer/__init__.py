"""What a strategy remembers of past experiences: preallocated rows, bounded by capacity."""
