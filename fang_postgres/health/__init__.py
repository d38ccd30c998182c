"""What ``fang doctor`` looks at: facts about the database, and the rules that say what is wrong and what mends it."""
