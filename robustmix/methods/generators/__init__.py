"""Networks that make the masks of AutoMix, SAMix and AdAutoMix."""
