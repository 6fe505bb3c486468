"""What the records amount to, and what follows from them. Pure: no await, no clock, no chance."""
