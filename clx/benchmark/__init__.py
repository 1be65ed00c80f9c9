"""Streams of experiences: which classes or domains arrive when, and under which labels."""
