"""The doctor's second look: which images a frozen backbone finds mislabelled, or unlike all others."""
