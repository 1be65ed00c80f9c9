"""The one loop: fitting a phase, evaluating, and the Trainer that puts them together."""
