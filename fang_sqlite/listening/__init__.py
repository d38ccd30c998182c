"""How those who wait hear of what was committed, in this process and in others."""
