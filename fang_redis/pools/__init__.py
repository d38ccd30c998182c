"""What pools write of themselves, how they show that they live, and how they hear what happens."""
