"""Which backbone suits the data: transferability, measured speed, and a picture of both."""
