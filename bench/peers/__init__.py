"""What `make bench` compares with: a file for each package, written as its users write it, and a list of them."""
