"""Shows what there is and what goes on."""
