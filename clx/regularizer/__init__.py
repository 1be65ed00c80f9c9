"""Loss terms that join any strategy: they read the model and write only themselves."""
