"""Data sets as uint8 tensors in memory, read once and cached; batches of them on the device."""
