"""What the machine decides: seeds, device, torchvision's operators, calling partials."""
