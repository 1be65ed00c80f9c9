"""Continual-learning methods, one file each; finetune.py is the parent of all."""
