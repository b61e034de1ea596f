"""What measurements say about each of the seven questions: pure verdict rules, one question a file."""
