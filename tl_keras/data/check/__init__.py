"""The doctor's first look: what each image is like, and which are copies of others, without a network."""
