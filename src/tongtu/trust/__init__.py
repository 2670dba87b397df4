"""What a shared pretrained model puts at risk, measured and mended. It takes systems as arguments and imports none."""
