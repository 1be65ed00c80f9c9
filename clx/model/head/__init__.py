"""Heads: from features [B, D] to logits [B, K], growing with the classes seen."""
