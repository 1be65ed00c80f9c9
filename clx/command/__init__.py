"""The verbs of `clx`, one file each; every main(arguments) returns an exit code."""
