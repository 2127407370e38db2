"""What a person looks at: plots, and one page that holds them all."""
