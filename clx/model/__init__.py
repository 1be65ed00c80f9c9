"""Networks that grow with the stream: backbones with `features`, heads as the child `classifier`."""
