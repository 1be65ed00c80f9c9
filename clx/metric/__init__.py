"""Accuracy matrices and what is read off them: pure functions, without torch."""
