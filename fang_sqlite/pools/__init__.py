"""What pools write of themselves, how they show that they live, and who takes back what a dead one held."""
